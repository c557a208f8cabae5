"""Delays between attempts."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evserve.backoff import BackOff


class BackOffTests(SynchronousTestCase):
    @given(st.integers(1, 10**6), st.floats(0, 1))
    def test_no_delay_is_beyond_the_ceiling_nor_zero(self, failures, roll):
        delay = BackOff(initial=0.1, ceiling=10).delay(failures, roll)
        self.assertTrue(0.05 <= delay <= 10)
