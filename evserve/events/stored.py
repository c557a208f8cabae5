"""An event in memory, and the timer that will end its delay or its TTR."""

from enum import Enum, auto

from attrs import define
from twisted.internet.interfaces import IDelayedCall

from evserve.events.event import Event


class State(Enum):
    """Where in its life an event is."""

    READY = auto()
    RESERVED = auto()
    DELAYED = auto()
    BURIED = auto()


@define(eq=False)
class Stored:
    """An event in a MemoryQueue: `event` holds the counters, `timer` ends a delay or a TTR."""

    number: int
    event: Event
    state: State = State.READY
    timer: IDelayedCall | None = None

    def enter(self, state: State, event: Event, timer: IDelayedCall | None = None) -> None:
        """Change the state, and with it what the clock will do next."""
        if self.timer is not None and self.timer.active():
            self.timer.cancel()
        self.state, self.event, self.timer = state, event, timer
