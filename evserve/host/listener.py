"""Listening: the service that `host.listen` returns, and ports on inherited sockets."""

import socket
from typing import Any

from attrs import define, field
from twisted.application.service import Service
from twisted.internet import tcp, unix
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IProtocolFactory, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure
from typing_extensions import override

from evserve.host.connections import ConnectionLimiter, IdleSweep
from evserve.host.process import USER_ERRORS, explain
from evserve.interfaces import IHost


_log = Logger()


@define(eq=False)
class ListenerService(Service):
    """Listens on endpoints, `{as the user wrote it: parsed}`, for a limited factory."""

    host: IHost
    endpoints: dict[str, IStreamServerEndpoint]
    limiter: ConnectionLimiter
    ports: list[Any] = field(init=False, factory=list)
    addresses: list[str] = field(init=False, factory=list)  # of the ports, by format_address
    _listening: bool = field(init=False, default=False)
    _idle_sweep: IdleSweep = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._idle_sweep = IdleSweep(self.limiter)

    @override
    def privilegedStartService(self) -> None:
        Service.privilegedStartService(self)
        self._listen()

    @override
    def startService(self) -> None:
        # Until here, other services of the process could still fail to listen.
        for address in self.addresses:
            self._announce(address)
        Service.startService(self)
        self._listen()  # `twist` calls no privilegedStartService
        self._idle_sweep.start()

    def _listen(self) -> None:
        if self._listening:
            return
        self._listening = True
        for written, endpoint in self.endpoints.items():
            port = maybeDeferred(endpoint.listen, self.limiter)
            port.addCallback(self._add_port, written.partition(":")[0])
            port.addErrback(self._fail, written)

    def _add_port(self, port: Any, kind: str) -> None:
        self.ports.append(port)
        if hasattr(port, "stopReading"):
            self.limiter.descriptors.watch(port)
        if hasattr(port, "getHost"):
            address = format_address(kind, port.getHost())
            self.addresses.append(address)
            if self.running:
                self._announce(address)

    def _announce(self, address: str) -> None:
        _log.info("{name}: listening on {address}", name=self.limiter.name, address=address)

    def _fail(self, failure: Failure, written: str) -> None:
        if not failure.check(*USER_ERRORS):
            _log.failure("{name}: {written}", failure, name=self.limiter.name, written=written)
        assert failure.value is not None
        reason = explain(failure.value)
        if not isinstance(failure.value, CannotListenError):  # which names the address itself
            reason = f"cannot listen on {written}: {reason}"
        self.host.fail(reason)

    def pause(self) -> None:
        """Accept no more connections, and keep the open ones."""
        for port in self.ports:
            self.limiter.descriptors.forget(port)
            if hasattr(port, "stopReading"):
                port.stopReading()

    @override
    def stopService(self) -> Deferred[None]:
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        """Stop listening, then wait until every connection has finished."""
        self._listening = False  # it may be started again
        closing = [port for port in self.ports if hasattr(port, "stopListening")]
        self.ports.clear()
        self.addresses.clear()
        for port in closing:
            self.limiter.descriptors.forget(port)
            await maybeDeferred(port.stopListening)
        await self.limiter.drain()
        self._idle_sweep.stop()


def format_address(kind: str, address: Any) -> str:
    """Return an address as `tcp 127.0.0.1:9000`, `tcp [::1]:9000` or `unix /run/echo`."""
    host = getattr(address, "host", None)
    if host is None:
        name = getattr(address, "name", b"")
        return f"{kind} {name.decode('utf-8', 'replace') if isinstance(name, bytes) else name}"
    return f"{kind} [{host}]:{address.port}" if ":" in host else f"{kind} {host}:{address.port}"


class SharedUnixPort(unix.Port):
    """A UNIX port on a socket that another process bound and owns.

    Twisted's would change the mode of the file, and in the end remove it and shut the socket down
    for every process that shares it.
    """

    _shouldShutdown = False
    connectionLost = tcp.Port.connectionLost

    @override
    def startListening(self) -> None:
        port: Any = self  # Twisted annotates half of these attributes wrongly
        port.factory.doStart()
        port.socket = port._preexistingSocket  # noqa: SLF001 - inherited
        port._preexistingSocket = None  # noqa: SLF001 - inherited
        port.fileno = port.socket.fileno
        port.connected = True
        port.numberAccepts = 100  # Twisted's own initial value
        port.startReading()


def port_from_descriptor(kind: Any, reactor: Any, fileno: int, *rest: Any) -> Any:
    """Return a port of class `kind` on a copy of `fileno`, not yet started."""
    return kind._fromListeningDescriptor(reactor, fileno, *rest)  # noqa: SLF001 - Twisted's reactors use it too


def adopt_port(reactor: Any, fileno: int, family: int, factory: IProtocolFactory) -> Any:
    """Return a port that accepts from a copy of the listening socket `fileno`."""
    if family != socket.AF_UNIX:
        return reactor.adoptStreamPort(fileno, family, factory)
    port = port_from_descriptor(SharedUnixPort, reactor, fileno, factory)
    port.startListening()
    return port


@define(eq=False)
class SharedSocketReactor:
    """A reactor for endpoints, which adopts UNIX sockets as a SharedUnixPort."""

    reactor: Any

    def adoptStreamPort(self, fileno: int, family: int, factory: IProtocolFactory) -> Any:
        return adopt_port(self.reactor, fileno, family, factory)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reactor, name)
