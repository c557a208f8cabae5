"""The load room: drive a server that answers, check every byte, and tell how fast it was.

`evserve.load.run.run_load(reactor, plan)` does it from Python; `service.py` is the command. What
is measured is in `report.py`, and what could falsify it in `saturation.py`.
"""
