"""Talk to an echo server from the terminal: type a line, see what comes back.

    python examples/echo_client.py --connect tcp:127.0.0.1:9000

The keyboard and the network are both events on one reactor, so an answer that comes late or
unasked appears at once. `q` or the end of standard input quits.
"""

import argparse
import sys
from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.interfaces import IHalfCloseableProtocol, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.stdio import StandardIO
from twisted.internet.task import react
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from zope.interface import implementer


PROMPT = b">>> "
GRACE = 5.0  # seconds that a quitting client waits for the answers it is owed


@define(eq=False)
class Answers(Protocol):
    """The network side: shows what comes back, and counts the lines without an answer yet."""

    transport: Any = field(default=None, init=False)
    show: Callable[[bytes], object] = sys.stdout.buffer.write  # until there is a terminal
    owed: int = field(default=0, init=False)
    is_quitting: bool = field(default=False, init=False)
    lost: Deferred[None] = field(factory=Deferred, init=False)

    def ask(self, line: bytes) -> None:
        """Send a line."""
        self.owed += 1
        self.transport.write(line + b"\n")

    def dataReceived(self, data: bytes) -> None:
        """Show what arrived, and prompt again after the end of a line."""
        self.owed -= data.count(b"\n")
        at_rest = data.endswith(b"\n") and not self.is_quitting
        self.show(data + PROMPT if at_rest else data)
        if self.is_quitting and self.owed <= 0:
            self.transport.loseConnection()

    def quit(self, clock: IReactorTime) -> None:
        """Close once the answers that are owed have come, or after `GRACE` seconds."""
        self.is_quitting = True
        if self.owed <= 0:
            self.transport.loseConnection()
        else:
            clock.callLater(GRACE, self.transport.abortConnection)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell `talk` that the connection is closed."""
        self.lost.callback(None)


@implementer(IHalfCloseableProtocol)
@define(eq=False)
class Keyboard(LineReceiver):
    """The terminal side: sends each line typed."""

    delimiter = b"\n"
    MAX_LENGTH = 1024 * 1024
    transport: Any = field(default=None, init=False)
    _answers: Answers
    _clock: IReactorTime
    closed: Deferred[None] = field(factory=Deferred, init=False)

    def connectionMade(self) -> None:
        """Prompt; while the server does not read, stop reading the keyboard."""
        self.transport.write(PROMPT)
        self._answers.transport.registerProducer(self.transport, True)

    def lineReceived(self, line: bytes) -> None:
        """Send the line, or quit."""
        if line.strip() == b"q":
            self._quit()
        elif not self._answers.is_quitting:
            self._answers.ask(line)

    def readConnectionLost(self) -> None:
        """Send a last line without a line break, and quit: standard input has ended."""
        rest: bytes = LineReceiver.clearLineBuffer(self)
        if rest:
            self.lineReceived(rest)
        self._quit()

    def writeConnectionLost(self) -> None:
        """Quit: standard output is closed."""
        self._quit()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell `talk` that all output has been written."""
        self.closed.callback(None)

    def _quit(self) -> None:
        if not self._answers.is_quitting:
            self._answers.transport.unregisterProducer()
            self._answers.quit(self._clock)


async def talk(reactor: Any, endpoint: str) -> None:
    """Connect, then carry lines until either side ends."""
    answers = Answers()
    try:
        await connectProtocol(clientFromString(reactor, endpoint), answers)
    except Exception as error:
        sys.exit(f"cannot connect to {endpoint}: {error}")
    keyboard = Keyboard(answers, reactor)
    attach: Any = StandardIO
    terminal = attach(keyboard, reactor=reactor)
    answers.show = terminal.write
    await answers.lost
    if not answers.is_quitting:
        terminal.write(b"\n")
    terminal.loseConnection()
    await keyboard.closed
    if not answers.is_quitting:
        sys.exit(f"{endpoint} has closed the connection")


def main(reactor: Any) -> Deferred[None]:
    """Run until either side ends; `react` turns `sys.exit` into the exit status."""
    parser = argparse.ArgumentParser(description="Talk to an echo server; q quits.")
    parser.add_argument("--connect", default="tcp:127.0.0.1:9000", help="Twisted client endpoint")
    return Deferred.fromCoroutine(talk(reactor, parser.parse_args().connect))


if __name__ == "__main__":
    react(main)
