"""What a round trip costs: this reactor beside Twisted's, bare uvloop, and C.

`python -m evserve.reactor.bench`; see docs/reactor.md.
"""
