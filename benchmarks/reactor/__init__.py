"""What a round trip costs: this reactor beside Twisted's, bare uvloop, and C.

`python -m benchmarks.reactor`; see docs/reactor.md.
"""
