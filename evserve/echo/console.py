"""`--console`: a person at the terminal asks a running echo server how it is."""

from collections.abc import Callable
from typing import Any

from attrs import define, field, frozen
from twisted.application.service import Service
from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol
from twisted.internet.stdio import StandardIO
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from zope.interface import implementer

from evserve.echo.protocol import Connections
from evserve.interfaces import IHost


# What can be asked at the console, and the answers: text, each line ended.


@frozen
class Peer:
    """A connected client: its name and for how many seconds it has been there."""

    name: str
    age: float


@frozen
class Snapshot:
    """How the server is: seconds since its start, clients ever and clients now."""

    uptime: float
    opened: int
    peers: tuple[Peer, ...]


def _status(now: Snapshot) -> str:
    return (
        f"up {now.uptime:.0f} s, {len(now.peers)} connected, "
        f"{now.opened} connections since the start\n"
    )


def _connections(now: Snapshot) -> str:
    lines = [f"{peer.name} for {peer.age:.0f} s\n" for peer in now.peers]
    return "".join(lines) or "no connections\n"


_QUESTIONS: dict[str, Callable[[Snapshot], str]] = {
    "status": _status,
    "connections": _connections,
}


def answer(command: str, now: Snapshot) -> str:
    """Return the answer to `command`; `quit` is an act, not a question, and is done elsewhere."""
    if command in _QUESTIONS:
        return _QUESTIONS[command](now)
    known = ", ".join([*_QUESTIONS, "quit", "help"])
    return f"{known}\n" if command == "help" else f"unknown command {command!r}; known: {known}\n"


_log = Logger(namespace="evserve.echo")


def peer_name(peer: IAddress) -> str:
    """Return `host:port`; clients of a UNIX socket have no name of their own."""
    host, port = getattr(peer, "host", None), getattr(peer, "port", None)
    if host is None:
        return "unix"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@implementer(IHalfCloseableProtocol)
@define(eq=False)
class Console(LineOnlyReceiver):
    """Reads commands line by line; when they end, the server goes on without."""

    delimiter = b"\n"
    transport: Any = field(default=None, init=False)  # an ITransport once there is one
    _host: IHost
    _connections: Connections
    _started: float = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._started = self._host.reactor.seconds()

    def lineReceived(self, line: bytes) -> None:
        """Carry out the command in `line` and write its answer."""
        command = line.decode(errors="replace").strip().lower()
        if command == "quit":
            self._host.finish(0)
        elif command:
            self.transport.write(answer(command, self._snapshot()).encode())

    def readConnectionLost(self) -> None:
        """Go on without commands."""
        _log.info("echo: end of standard input; the server goes on without commands")

    def writeConnectionLost(self) -> None:
        """Go on without answers."""

    def _snapshot(self) -> Snapshot:
        now = self._host.reactor.seconds()
        peers = tuple(
            Peer(peer_name(each.transport.getPeer()), now - since)
            for each, since in self._connections.since.items()
        )
        return Snapshot(now - self._started, self._connections.opened, peers)


@define(eq=False)
class ConsoleService(Service):
    """Attaches the console to standard input and output while the service runs."""

    _host: IHost
    _connections: Connections
    _stdin: int | None  # descriptors; None when the process was started without
    _stdout: int | None
    _attached: StandardIO | None = field(default=None, init=False)

    def startService(self) -> None:
        """Start reading commands."""
        Service.startService(self)
        if self._stdin is None or self._stdout is None:
            _log.info("echo: standard input or output is closed; no console")
        else:
            console = Console(self._host, self._connections)
            attach: Any = StandardIO  # to mypy it is Windows', which takes no descriptors
            self._attached = attach(console, self._stdin, self._stdout, reactor=self._host.reactor)

    def stopService(self) -> None:
        """Stop reading, and make standard output blocking again for whoever shares it."""
        Service.stopService(self)
        if self._attached is not None:
            self._attached.loseConnection()
            self._attached = None
