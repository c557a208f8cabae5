"""A server that answers every request after the given number of seconds."""

import sys
from collections import deque
from typing import Any

from twisted.internet.protocol import Factory, Protocol


_NO_ROBOTS = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Delay(Protocol):
    """Answers in order; requests have no bodies and arrive whole."""

    factory: "DelayFactory"

    def dataReceived(self, data: bytes) -> None:
        """Answer later, except for robots.txt, which is not measured."""
        if data.startswith(b"GET /robots.txt "):
            transport: Any = self.transport
            transport.write(_NO_ROBOTS)
            return
        for _ in range(data.count(b"\r\n\r\n")):
            self.factory.later(self)


class DelayFactory(Factory):
    """One queue and one timer for all requests: with equal delays, the first is due first."""

    protocol = Delay  # type: ignore[assignment]  # it knows its factory's type
    noisy = False

    def __init__(self, reactor: Any, seconds: float) -> None:
        self._reactor = reactor
        self._seconds = seconds
        self._due: deque[tuple[float, Delay]] = deque()

    def later(self, protocol: Delay) -> None:
        """Answer on `protocol` after the delay."""
        if not self._due:
            self._reactor.callLater(self._seconds, self._answer)
        self._due.append((self._reactor.seconds() + self._seconds, protocol))

    def _answer(self) -> None:
        now = self._reactor.seconds()
        while self._due and self._due[0][0] <= now:
            transport: Any = self._due.popleft()[1].transport
            transport.write(_ANSWER)
        if self._due:
            self._reactor.callLater(max(0.0, self._due[0][0] - now), self._answer)


def main(seconds: float) -> None:
    """Print the port and serve until killed."""
    from twisted.internet import reactor as installed

    reactor: Any = installed
    factory = DelayFactory(reactor, seconds)
    port = reactor.listenTCP(0, factory, backlog=1024, interface="127.0.0.1")
    print(port.getHost().port, flush=True)
    reactor.run()


if __name__ == "__main__":
    main(float(sys.argv[1]))
