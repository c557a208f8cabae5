"""`--console`: commands on standard input, answers on standard output."""

from typing import Any

from attrs import define, field, frozen
from twisted.application.service import Service
from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol
from twisted.internet.stdio import StandardIO
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from typing_extensions import override
from zope.interface import implementer

from evserve.echo.protocol import EchoFactory
from evserve.interfaces import IHost


_COMMANDS = "status, connections, quit, help"

_log = Logger(namespace="evserve.echo")


@frozen
class Peer:
    """A connected client: its name, and the seconds since it connected."""

    name: str
    age: float


@frozen
class Snapshot:
    """The state of the server: seconds since its start, clients since then, clients now."""

    uptime: float
    opened: int
    peers: tuple[Peer, ...]


def answer(command: str, now: Snapshot) -> str:
    """Return the answer to any command but `quit`, each line ended."""
    if command == "status":
        return (
            f"up {now.uptime:.0f} s, {len(now.peers)} connected, "
            f"{now.opened} connections since the start\n"
        )
    if command == "connections":
        lines = [f"{peer.name} for {peer.age:.0f} s\n" for peer in now.peers]
        return "".join(lines) or "no connections\n"
    if command == "help":
        return f"{_COMMANDS}\n"
    return f"unknown command {command!r}; known: {_COMMANDS}\n"


def peer_name(peer: IAddress) -> str:
    """Return `host:port`, or `unix` for a client of a UNIX socket."""
    host, port = getattr(peer, "host", None), getattr(peer, "port", None)
    if host is None:
        return "unix"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@implementer(IHalfCloseableProtocol)
@define(eq=False)
class Console(LineOnlyReceiver):
    """Reads commands line by line; the server goes on when they end."""

    delimiter = b"\n"
    transport: Any = field(default=None, init=False)  # an ITransport once there is one
    _host: IHost
    _factory: EchoFactory
    _started: float = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._started = self._host.reactor.seconds()

    @override
    def lineReceived(self, line: bytes) -> None:
        command = line.decode(errors="replace").strip().lower()
        if command == "quit":
            self._host.finish(0)
        elif command:
            self.transport.write(answer(command, self._snapshot()).encode())

    def readConnectionLost(self) -> None:
        _log.info("echo: end of standard input; the server goes on without commands")

    def writeConnectionLost(self) -> None:
        pass  # the server goes on without answers

    def _snapshot(self) -> Snapshot:
        now = self._host.reactor.seconds()
        peers = tuple(
            Peer(peer_name(each.transport.getPeer()), now - since)
            for each, since in self._factory.connections.items()
        )
        return Snapshot(now - self._started, self._factory.opened, peers)


@define(eq=False)
class ConsoleService(Service):
    """Attaches the console to standard input and output while the service runs."""

    _host: IHost
    _factory: EchoFactory
    _stdin: int | None  # descriptors; None if the process was started without
    _stdout: int | None
    _attached: StandardIO | None = field(default=None, init=False)

    @override
    def startService(self) -> None:
        Service.startService(self)
        if self._stdin is None or self._stdout is None:
            _log.info("echo: standard input or output is closed; no console")
        else:
            console = Console(self._host, self._factory)
            attach: Any = StandardIO  # to mypy it is Windows', which takes no descriptors
            self._attached = attach(console, self._stdin, self._stdout, reactor=self._host.reactor)

    @override
    def stopService(self) -> None:
        Service.stopService(self)
        if self._attached is not None:
            # This also makes standard output blocking again for other processes that share it.
            self._attached.loseConnection()
            self._attached = None
