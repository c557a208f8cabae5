"""Retries: what becomes of an event whose handler failed. Pure: counters in, a verdict out."""

from attrs import frozen

from evserve.events import BackOff, Event


@frozen
class Retry:
    """Try again after `delay` seconds."""

    delay: float


@frozen
class Bury:
    """Set the event aside until an operator kicks it; the operator reads `reason`."""

    reason: str


RETRIES = BackOff(initial=1.0, ceiling=600.0)
"""Between the attempts of an event, in seconds."""


@frozen
class RetryPolicy:
    """How many attempts an event has, and the back-off between them.

    The queue counts attempts, so they include those that ended with the process: an event that
    kills its process must not do so forever. A buried event that an operator kicks has
    `max_attempts` again. An attempt that ended because the worker had to stop does not count: the
    worker gave the event back without a delay, which no failed attempt does. Only the last release
    can be told, so that it counts after the next failure.
    """

    max_attempts: int = 5
    back_off: BackOff = RETRIES

    def attempts(self, event: Event) -> int:
        """Return the number of attempts since the event was last buried, this one included."""
        given_back = event.releases > 0 and event.delay == 0
        return event.attempts - self.max_attempts * event.buries - given_back

    def before_attempt(self, event: Event) -> Bury | None:
        """Return Bury for an event that ended its process or overran its TTR at the last attempt.

        Every other attempt was ended by a release or a burial, of which the queue keeps count.
        """
        died = event.attempts - 1 - event.releases - event.buries
        # The attempt that ends in such a burial is none, and those before may have ended so.
        if died <= 0 or self.attempts(event) - event.buries <= self.max_attempts:
            return None
        return Bury(
            f"given up without a run: {event.attempts - 1} attempts, and the last ended because "
            "its worker died or lost the queue, or because its TTR ran out"
        )

    def after_failure(self, event: Event, reason: str, roll: float) -> Retry | Bury:
        """Decide about an event whose handler raised; `roll` is random, from 0 to 1."""
        attempts = max(self.attempts(event), 1)
        if attempts >= self.max_attempts:
            return Bury(reason)
        return Retry(self.back_off.delay(attempts, roll))
