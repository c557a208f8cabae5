"""`--console`: commands on standard input, answers on standard output."""

from typing import Any

from attrs import define, field
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


def peer_name(peer: IAddress) -> str:
    """Return `host:port`, or `unix` for a client of a UNIX socket."""
    host, port = getattr(peer, "host", None), getattr(peer, "port", None)
    if host is None:
        return "unix"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@implementer(IHalfCloseableProtocol)
@define(eq=False)
class Console(LineOnlyReceiver):
    """Reads commands line by line; the server continues when they end."""

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
            self.transport.write(self._answer(command).encode())

    def _answer(self, command: str) -> str:
        now = self._host.reactor.seconds()
        opened, connections = self._factory.opened, self._factory.connections
        if command == "status":
            uptime = now - self._started
            total = f"{opened} connections since the start"
            return f"up {uptime:.0f} s, {len(connections)} connected, {total}\n"
        if command == "connections":
            lines = [
                f"{peer_name(each.transport.getPeer())} for {now - since:.0f} s\n"
                for each, since in connections.items()
            ]
            return "".join(lines) or "no connections\n"
        if command == "help":
            return f"{_COMMANDS}\n"
        return f"unknown command {command!r}; known: {_COMMANDS}\n"

    def readConnectionLost(self) -> None:
        _log.info("echo: end of standard input; the server continues without commands")

    def writeConnectionLost(self) -> None:
        pass  # the server continues without answers


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
