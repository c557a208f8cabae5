"""All the connections of a run: opening them, some at a time, and closing them."""

from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IAddress, IStreamClientEndpoint
from twisted.internet.protocol import Factory

from evserve.load.connection import LoadConnection, cause_of
from evserve.load.conversations import Mismatch
from evserve.load.endpoints import parse_endpoint
from evserve.load.sources import Sources


_HANDSHAKES = 100  # at a time: more would overflow the backlog of a server that is being measured
_GOODBYE = 1.0  # seconds


@define(eq=False)
class Crowd(Factory):
    """Opens connections and knows which are open; `emptied` is called when the last is lost.

    The first that open talk, up to `talkers`; whoever comes after that sits idle.
    """

    noisy = False

    _reactor: Any
    _sources: Sources
    _make: Callable[[int, "Crowd"], LoadConnection]
    _talkers: int
    _strict: bool  # open no more once one has failed
    emptied: Callable[[], None]
    talking: dict[LoadConnection, None] = field(factory=dict, init=False)
    idle: dict[LoadConnection, None] = field(factory=dict, init=False)
    _turns: deque[LoadConnection] = field(factory=deque, init=False)
    _endpoints: dict[str, IStreamClientEndpoint] = field(factory=dict, init=False)
    _made: int = field(default=0, init=False)
    total: int = field(default=0, init=False)
    failed: Counter[str] = field(factory=Counter, init=False)
    ended: Counter[str] = field(factory=Counter, init=False)
    mismatches: list[str] = field(factory=list, init=False)
    _opening: Deferred[Any] | None = field(default=None, init=False)
    _closed: Deferred[None] | None = field(default=None, init=False)
    _stopped: bool = field(default=False, init=False)

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self.talking) + len(self.idle)

    def buildProtocol(self, addr: IAddress | None) -> LoadConnection:
        """Make a connection with a conversation of its own."""
        self._made += 1
        return self._make(self._made, self)

    async def fill(self, count: int) -> None:
        """Open `count` connections; failures are counted. Raises EndpointError."""
        self._endpoint(self._sources.current)
        numbers = iter(range(count))
        self._opening = gatherResults(
            Deferred.fromCoroutine(self._open_some(numbers)) for _ in range(_HANDSHAKES)
        )
        await self._opening

    async def _open_some(self, numbers: Iterator[int]) -> None:
        for _ in numbers:
            if self._stopped:
                return
            await self._open()

    async def _open(self) -> None:
        while True:
            used = self._sources.current
            try:
                await self._endpoint(used).connect(self)
            except Exception as error:
                if self._stopped:
                    return
                if self._sources.move_on(used, error):
                    continue
                self.failed[cause_of(error)] += 1
                if self._strict:
                    self._stopped = True
                    self._reactor.callLater(0, self.stop)  # none can cancel itself
            return

    def _endpoint(self, description: str) -> IStreamClientEndpoint:
        if description not in self._endpoints:
            self._endpoints[description] = parse_endpoint(self._reactor, description)
        return self._endpoints[description]

    def opened(self, connection: LoadConnection) -> None:
        """See Owner."""
        self.total += 1
        if self.total <= self._talkers:
            self.talking[connection] = None
            self._turns.append(connection)
        else:
            self.idle[connection] = None

    def lost(self, connection: LoadConnection, cause: str) -> None:
        """See Owner."""
        known = self._forget(connection)
        if self._closed is not None:
            if not self.open and not self._closed.called:
                self._closed.callback(None)
        elif known:
            self.ended[cause] += 1
            self._look()

    def wrong(self, connection: LoadConnection, mismatch: Mismatch) -> None:
        """See Owner."""
        self.mismatches.append(str(mismatch))
        self._forget(connection)
        self._look()

    def _forget(self, connection: LoadConnection) -> bool:
        """Say whether the connection was among those that are open."""
        for group in (self.talking, self.idle):
            if connection in group:
                del group[connection]
                return True
        return False

    def _look(self) -> None:
        if not self.talking:
            self.emptied()

    def next(self) -> LoadConnection | None:
        """Return the connection whose turn it is to send, or None if none is open."""
        while self._turns:
            connection = self._turns.popleft()
            if connection in self.talking:
                self._turns.append(connection)
                return connection
        return None

    def stop(self) -> None:
        """Open no more."""
        self._stopped = True
        if self._opening is not None:
            self._opening.cancel()

    async def close(self) -> None:
        """Close what is open, politely, then by force."""
        if not self.open:
            return
        self._closed = Deferred()
        everyone = [*self.talking, *self.idle]
        cut = self._reactor.callLater(_GOODBYE, self._abort)
        for connection in everyone:
            connection.close()
        await self._closed
        if cut.active():
            cut.cancel()

    def _abort(self) -> None:
        for connection in [*self.talking, *self.idle]:
            connection.transport.abortConnection()
