"""The I/O-model lab: every model under the same load, one after another, and a report of it.

`service.py` is the command. `grid.py` says what is run, `cells.py` runs a model at one number of
connections, `claims/` are the tutorials' claims, `results.py` is the JSON, `report/`
draws the page from it. The load comes from `evserve.load`, which is the one room this one knows.
"""
