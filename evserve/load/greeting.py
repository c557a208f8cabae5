"""Before a run that insists on it: every connection opens, and every one is answered once.

A connection may be open and yet have nobody who serves it: the kernel completes the handshake by
itself. Who measures without asking takes those for idle connections that cost nothing.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from attrs import define, field

from evserve.load.connections import Crowd
from evserve.load.plan import Plan
from evserve.load.traffic import Traffic


_AT_ONCE = 200  # a server of ten thousand threads is not made for ten thousand messages at once
_TURN = 0.005  # seconds


@define(eq=False)
class Greeting:
    """Opens the connections of a plan and waits until each has had an answer.

    pause: waits that many seconds, or until `wake` or the last answer.  is_over: whether there is
    nothing left to wait for.
    """

    _reactor: Any
    _plan: Plan
    _crowd: Crowd
    _traffic: Traffic
    _pause: Callable[[float], Awaitable[None]]
    _wake: Callable[[], None]
    _is_over: Callable[[], bool]
    _is_late: bool = field(default=False, init=False)

    @property
    def _wanted(self) -> int:
        return self._plan.connections + self._plan.idle

    async def run(self, seconds: float) -> str | None:
        """Say why not all are open and answered within `seconds`, or None if they are."""
        late = self._reactor.callLater(seconds, self._late)
        try:
            await self._crowd.fill(self._wanted)
            if self._crowd.open < self._wanted:
                many = f"only {self._crowd.open:,} of {self._wanted:,} connections open"
                return f"{many}{self._cause}"
            await self._greet()
        finally:
            if late.active():
                late.cancel()
        return self._unanswered()

    def _late(self) -> None:
        self._is_late = True
        self._crowd.stop()
        self._wake()

    async def _greet(self) -> None:
        """Send a message on each connection, a few at a time; wait as long as answers come."""
        traffic, crowd = self._traffic, self._crowd
        traffic.begin(self._wanted)
        traffic.take(self._wanted)
        silent, asked = deque([*crowd.talking, *crowd.idle]), 0
        answered, since = 0, self._reactor.seconds()
        while not (self._is_over() or self._is_late):
            if traffic.answered != answered:
                answered, since = traffic.answered, self._reactor.seconds()
            elif self._reactor.seconds() - since >= self._plan.timeout:
                return
            while silent and asked - traffic.answered - traffic.unanswered < _AT_ONCE:
                silent.popleft().send(1)
                asked += 1
            await self._pause(_TURN if silent else self._plan.timeout)

    def _unanswered(self) -> str | None:
        missing = self._wanted - self._traffic.answered
        if not missing:
            return None
        many = f"{missing:,} of {self._wanted:,} connections"
        if self._is_late:
            return f"{many} had not been answered after {self._plan.ready_within:g} s"
        return f"{many} were never answered{self._cause}"

    @property
    def _cause(self) -> str:
        """The commonest reason why connections failed or were lost."""
        causes = (self._crowd.failed + self._crowd.ended).most_common(1)
        if causes:
            return f": {causes[0][0]}"
        return f" in {self._plan.ready_within:g} s" if self._is_late else ""
