"""What is said by one client is heard by the others; names are numbers unless chosen."""

from typing import Any

from attrs import define, field
from prometheus_client import Counter
from twisted.application.service import IService
from twisted.internet.protocol import Factory, connectionDone
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure
from twisted.python.usage import Options as UsageOptions
from zope.interface import implementer

from evserve.interfaces import IDrainable, IHost


class Options(UsageOptions):
    """What the command line and a `[services.chat]` table may say."""

    optParameters = [["greeting", None, "Welcome, {name}.", "The line that a newcomer reads"]]

    default_port = 9100


@define(eq=False)
class Room:
    """Who is here, and what has been said."""

    greeting: str
    lines: Counter
    guests: "list[Guest]" = field(init=False, factory=list)
    newcomers: int = field(init=False, default=0)

    def enter(self, guest: "Guest") -> None:
        """Let a guest in under a number."""
        self.newcomers += 1
        guest.name = f"guest{self.newcomers}"
        guest.hear(self.greeting.format(name=guest.name))
        self.tell(f"* {guest.name} is here")
        self.guests.append(guest)

    def leave(self, guest: "Guest") -> None:
        """Let a guest go."""
        self.guests.remove(guest)
        self.tell(f"* {guest.name} has left")

    def say(self, speaker: "Guest", line: str) -> None:
        """Let everybody but the speaker hear a line."""
        self.lines.inc()
        self.tell(f"{speaker.name}: {line}", but=speaker)

    def tell(self, line: str, but: "Guest | None" = None) -> None:
        """Send a line to the guests."""
        for guest in self.guests:
            if guest is not but:
                guest.hear(line)


@implementer(IDrainable)
@define(eq=False)
class Guest(LineOnlyReceiver):
    """One client, line by line."""

    delimiter = b"\n"
    room: Room
    name: str = field(init=False, default="")
    transport: Any = field(init=False, default=None)

    def connectionMade(self) -> None:
        """Enter."""
        self.room.enter(self)

    def lineReceived(self, line: bytes) -> None:
        """Speak, or with `/name NAME` be called something else."""
        text = line.decode("utf-8", "replace").rstrip("\r")
        command, _, name = text.partition(" ")
        if command == "/name" and name.strip():
            old, self.name = self.name, name.strip()
            self.room.tell(f"* {old} is now {self.name}")
        elif text:
            self.room.say(self, text)

    def hear(self, line: str) -> None:
        """Send a line to this client."""
        self.transport.write(line.encode() + b"\n")

    def drain(self) -> None:
        """Say why, then close: the server is stopping."""
        self.hear("* the room closes")
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Leave."""
        self.room.leave(self)


@define(eq=False)
class Guests(Factory):
    """Makes a guest of every client."""

    room: Room

    def buildProtocol(self, addr: object) -> Guest:
        """See Factory."""
        return Guest(self.room)


def makeService(options: Options, host: IHost) -> IService:
    """Return the room as a service; endpoints, limits and draining are the host's."""
    lines = Counter("chat_lines", "Lines said.", registry=host.metrics)
    return host.listen(options, Guests(Room(options["greeting"], lines)))
