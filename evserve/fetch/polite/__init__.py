"""Politeness as a pure core: when a request may go out, whether again, and where not at all.

Nothing here knows Twisted or has a clock: `now` is an argument, in seconds.
"""
