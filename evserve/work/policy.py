"""What becomes of an event whose handler failed. Pure: counters in, a verdict out."""

from attrs import frozen

from evserve.events import Event
from evserve.events.backoff import BackOff


@frozen
class Retry:
    """Try again after `delay` seconds."""

    delay: float


@frozen
class Bury:
    """Give up until an operator kicks it; `reason` is what the operator reads."""

    reason: str


RETRIES = BackOff(initial=1.0, ceiling=600.0)
"""Between the attempts of an event, in seconds."""


@frozen
class Policy:
    """How often, and how soon, an event is tried.

    Attempts are counted by the queue, so they include those that ended with the worker: an event
    that kills its worker must not do so for ever. Each time an operator kicks a buried event it
    gets `max_attempts` anew.
    """

    max_attempts: int = 5
    back_off: BackOff = RETRIES

    def tries(self, event: Event) -> int:
        """Return how many attempts there were since the event was last buried, this included."""
        return event.attempts - self.max_attempts * event.buries

    def before(self, event: Event) -> Bury | None:
        """Say whether an event should not even be tried, since no attempt came to an end."""
        if self.tries(event) <= self.max_attempts:
            return None
        return Bury(
            f"given up without a run: {event.attempts - 1} attempts, the last of which ended "
            "with its worker or its time to run"
        )

    def after_failure(self, event: Event, reason: str, roll: float) -> Retry | Bury:
        """Decide about an event whose handler raised; `roll` is random, from 0 to 1."""
        tries = max(self.tries(event), 1)
        if tries >= self.max_attempts:
            return Bury(reason)
        return Retry(self.back_off.delay(tries, roll))
