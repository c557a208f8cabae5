"""The cost of a round trip on this reactor, on Twisted's, on bare uvloop and in C.

`python -m benchmarks.reactor`; docs/reactor.md has the figures.
"""
