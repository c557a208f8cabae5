"""Tests, for `trial` and `pytest` alike."""

from twisted.trial import util


# Seconds that a test may take. The limit is there for what hangs, and must spare what is slow: a
# machine with much else to do takes ten times as long as a quiet one.
util.DEFAULT_TIMEOUT_DURATION = 300.0
