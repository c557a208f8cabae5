"""Check an echo server with many clients at once: every byte back, and in order.

    python examples/many_clients.py --connections 3000 --messages 3

All connections stay open until every one has its answers. One thread serves them all: 3,000
threads would only wait, each for its own socket.
"""

import argparse
import resource
import sys
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, DeferredSemaphore, FirstError, gatherResults
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import react
from twisted.python.failure import Failure


SPARE_FILES = 64  # for standard streams, the reactor, modules being imported
HANDSHAKES = 200  # connections that are opened at the same time


class Mismatch(Exception):  # noqa: N818  # a result, not an error of this program
    """A reply differs from what was sent."""


def messages_of(client: int, count: int, size: int) -> list[bytes]:
    """Return `count` messages, unique to the client, each of `size` bytes or a few more."""
    return [f"{client}/{n} ".encode().ljust(size - 1, b".") + b"\n" for n in range(count)]


@define(eq=False)
class Client(Protocol):
    """Sends a message, waits until all of it is back, sends the next; `done` fires at the end."""

    transport: Any = field(default=None, init=False)
    _messages: list[bytes]
    _got: bytes = field(default=b"", init=False)
    done: Deferred[None] = field(factory=Deferred, init=False)

    def connectionMade(self) -> None:
        """Send the first message."""
        self.transport.write(self._messages[0])

    def dataReceived(self, data: bytes) -> None:
        """Compare what came back with what was sent, byte for byte."""
        self._got += data
        expected = self._messages[0]
        if not expected.startswith(self._got):
            self._fail(Mismatch(f"sent {expected[:60]!r}, got {self._got[:60]!r}"))
        elif self._got == expected:
            self._got = b""
            self._next()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Fail if the connection ends before the last reply."""
        if not self.done.called:
            self.done.errback(reason)

    def _next(self) -> None:
        del self._messages[0]
        if self._messages:
            self.transport.write(self._messages[0])
        else:
            self.done.callback(None)

    def _fail(self, error: Exception) -> None:
        if not self.done.called:
            self.done.errback(error)
        self.transport.abortConnection()


def positive(text: str) -> int:
    """Return a whole number above 0."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def raise_file_limit(files: int) -> None:
    """Raise the soft limit to `files` open files; exits if the hard limit is lower."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < files:
        if hard != resource.RLIM_INFINITY and hard < files:
            sys.exit(f"{files} open files are needed, but `ulimit -Hn` allows {hard}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))


def parse_endpoint(reactor: Any, text: str) -> IStreamClientEndpoint:
    """Return the endpoint that `text` describes; exits if there is none."""
    try:
        endpoint: IStreamClientEndpoint = clientFromString(reactor, text)
    except Exception as error:
        sys.exit(f"bad endpoint {text}: {error}")
    return endpoint


async def run(reactor: Any, arguments: argparse.Namespace) -> None:
    """Open every connection, wait for every reply, print the summary."""
    started = reactor.seconds()
    endpoint = parse_endpoint(reactor, arguments.connect)
    handshakes = DeferredSemaphore(HANDSHAKES)
    clients = [
        Client(messages_of(number, arguments.messages, arguments.size))
        for number in range(arguments.connections)
    ]
    opening = [handshakes.run(connectProtocol, endpoint, client) for client in clients]
    everything = gatherResults(
        [*opening, *(client.done for client in clients)], consumeErrors=True
    )
    await everything.addTimeout(arguments.timeout, reactor)
    took = reactor.seconds() - started
    total = arguments.connections * arguments.messages
    print(f"{arguments.connections} connections, {total} messages, {took:.2f} seconds")


async def report(reactor: Any, arguments: argparse.Namespace) -> None:
    """Run; a failure is one line and status 1."""
    try:
        await run(reactor, arguments)
    except FirstError as error:
        sys.exit(f"failed: {error.subFailure.getErrorMessage()}")
    except DeferredTimeout:
        sys.exit(f"failed: not every reply came within {arguments.timeout:g} seconds")


def main(reactor: Any) -> Deferred[None]:
    """Read the command line, raise the file limit, run."""
    parser = argparse.ArgumentParser(description="Check that an echo server echoes to many.")
    parser.add_argument("--connect", default="tcp:127.0.0.1:9000", help="Twisted client endpoint")
    parser.add_argument("--connections", type=positive, default=3000, help="connections to open")
    parser.add_argument("--messages", type=positive, default=3, help="messages per connection")
    parser.add_argument("--size", type=positive, default=64, help="bytes per message")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for the whole run")
    arguments = parser.parse_args()
    raise_file_limit(arguments.connections + SPARE_FILES)
    return Deferred.fromCoroutine(report(reactor, arguments))


if __name__ == "__main__":
    react(main)
