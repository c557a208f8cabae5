"""Exponential back-off with jitter."""

from attrs import frozen


@frozen
class BackOff:
    """Delays between attempts that grow with each failure.

    initial, ceiling: seconds.  factor: how much longer each delay is than the one before.
    """

    initial: float
    ceiling: float
    factor: float = 2.0

    def delay(self, failures: int, roll: float) -> float:
        """Return the seconds to wait after `failures` in a row (at least 1).

        `roll` is a random number from 0 to 1. It scales the exponential delay to between a half
        and all of it, so that clients that failed together do not come back together. 1 is no
        jitter.
        """
        # The exponent is bounded, because a float would overflow; 64 doublings reach any ceiling.
        exponential = self.initial * self.factor ** min(failures - 1, 64)
        return min(exponential, self.ceiling) * (0.5 + roll / 2)
