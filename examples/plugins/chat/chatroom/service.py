"""A chat room: each line that a client sends goes to all others."""

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
    """The options of the command line and of a `[services.chat]` table."""

    optParameters = [["greeting", None, "Welcome, {name}.", "First line sent to a new client"]]

    default_port = 9100


@define(eq=False)
class Room:
    """The clients, and a metric of the lines they have sent."""

    greeting: str
    lines: Counter
    guests: "list[Guest]" = field(init=False, factory=list)
    newcomers: int = field(init=False, default=0)

    def enter(self, guest: "Guest") -> None:
        """Add a guest, and name it by a number."""
        self.newcomers += 1
        guest.name = f"guest{self.newcomers}"
        guest.hear(self.greeting.format(name=guest.name))
        self.tell(f"* {guest.name} is here")
        self.guests.append(guest)

    def leave(self, guest: "Guest") -> None:
        """Remove a guest."""
        self.guests.remove(guest)
        self.tell(f"* {guest.name} has left")

    def say(self, speaker: "Guest", line: str) -> None:
        """Send a guest's line to all others."""
        self.lines.inc()
        self.tell(f"{speaker.name}: {line}", but=speaker)

    def tell(self, line: str, but: "Guest | None" = None) -> None:
        """Send a line to all guests except `but`."""
        for guest in self.guests:
            if guest is not but:
                guest.hear(line)


@implementer(IDrainable)
@define(eq=False)
class Guest(LineOnlyReceiver):
    """The protocol of one client."""

    delimiter = b"\n"
    room: Room
    name: str = field(init=False, default="")
    transport: Any = field(init=False, default=None)

    def connectionMade(self) -> None:
        self.room.enter(self)

    def lineReceived(self, line: bytes) -> None:
        """Send the line to the others; `/name NAME` changes the guest's name."""
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
        """Announce that the server stops, then close."""
        self.hear("* the room closes")
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.room.leave(self)


@define(eq=False)
class Guests(Factory):
    """Makes a Guest for each client."""

    room: Room

    def buildProtocol(self, addr: object) -> Guest:
        return Guest(self.room)


def makeService(options: Options, host: IHost) -> IService:
    """Return the room as a service; the host provides endpoints, limits and the drain."""
    lines = Counter("chat_lines", "Lines sent by clients.", registry=host.metrics)
    return host.listen(options, Guests(Room(options["greeting"], lines)))
