"""How long to wait before trying again: ever longer, never long beyond reason, never in step."""

from attrs import frozen


@frozen
class BackOff:
    """An exponential delay with jitter.

    initial, ceiling: seconds.  factor: how much longer each attempt waits than the one before.
    """

    initial: float
    ceiling: float
    factor: float = 2.0

    def delay(self, failures: int, roll: float) -> float:
        """Return the seconds to wait after `failures` in a row (at least 1).

        `roll` is a random number from 0 to 1: between half of the exponential delay and all of it,
        so that those who failed together do not come back together.
        """
        # Beyond 64 doublings every ceiling is reached, and a float would overflow at last.
        exponential = self.initial * self.factor ** min(failures - 1, 64)
        return min(exponential, self.ceiling) * (0.5 + roll / 2)
