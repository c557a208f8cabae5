"""How long to wait before a dead worker is replaced."""

from attrs import define, field


SHORTEST = 0.25  # seconds
LONGEST = 30.0  # seconds
STEADY = 30.0  # seconds of life after which a worker's next death is its first again


@define
class Backoff:
    """Waits twice as long after each death in a row."""

    _next: float = field(init=False, default=SHORTEST)

    def after(self, lived: float) -> float:
        """Return the seconds to wait after a worker has lived for so many."""
        if lived >= STEADY:
            self._next = SHORTEST
        wait, self._next = self._next, min(2 * self._next, LONGEST)
        return wait
