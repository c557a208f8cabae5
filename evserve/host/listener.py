"""A service that listens: what `host.listen` returns."""

import os
import socket
from contextlib import suppress
from typing import Any

from attrs import define, field
from twisted.application.service import Service
from twisted.internet import tcp, unix
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IProtocolFactory, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from evserve.host.connections import Door, IdleSweep
from evserve.host.process import MENDABLE, explain
from evserve.interfaces import IHost


_log = Logger()


class SharedUnixPort(unix.Port):
    """A UNIX port that leaves the socket and its file to whoever bound it."""

    _shouldShutdown = False
    connectionLost = tcp.Port.connectionLost

    def startListening(self) -> None:
        """Accept from the adopted socket."""
        port: Any = self  # half of Twisted's attributes have types that say otherwise
        port.factory.doStart()
        port.socket = port._preexistingSocket  # noqa: SLF001 - our own, inherited
        port._preexistingSocket = None  # noqa: SLF001 - likewise
        port.fileno = port.socket.fileno
        port.connected = True
        port.numberAccepts = 100  # Twisted's own first guess
        port.startReading()


def adopted_port(kind: Any, reactor: Any, fileno: int, *rest: Any) -> Any:
    """Return a port of class `kind` around a copy of `fileno`, not yet started."""
    return kind._fromListeningDescriptor(reactor, fileno, *rest)  # noqa: SLF001 - there is no other way, and Twisted's reactors take it


def adopt(reactor: Any, fileno: int, family: int, factory: IProtocolFactory) -> Any:
    """Return a port that accepts from a copy of the listening socket `fileno`."""
    if family != socket.AF_UNIX:
        return reactor.adoptStreamPort(fileno, family, factory)
    port = adopted_port(SharedUnixPort, reactor, fileno, factory)
    port.startListening()
    return port


@define(eq=False)
class Adopting:
    """A reactor as endpoints see it, which adopts UNIX sockets as above."""

    reactor: Any

    def adoptStreamPort(self, fileno: int, family: int, factory: IProtocolFactory) -> Any:
        """See IReactorSocket."""
        return adopt(self.reactor, fileno, family, factory)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reactor, name)


@define(eq=False)
class ListeningService(Service):
    """Listens on its endpoints, `{as written: parsed}`, and lets clients through the door."""

    host: IHost
    endpoints: dict[str, IStreamServerEndpoint]
    door: Door
    ports: list[Any] = field(init=False, factory=list)
    addresses: list[str] = field(init=False, factory=list)  # where it listens, as `describe` says
    _started: bool = field(init=False, default=False)
    _unannounced: list[str] = field(init=False, factory=list)
    _sweep: IdleSweep = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._sweep = IdleSweep(self.door)

    def privilegedStartService(self) -> None:
        """Listen while the process may still open low ports."""
        Service.privilegedStartService(self)
        self._listen()

    def startService(self) -> None:
        """Listen, if nobody called `privilegedStartService` (`twist` does not)."""
        Service.startService(self)
        self._listen()
        self._announce()
        self._sweep.start()

    def _listen(self) -> None:
        if self._started:
            return
        self._started = True
        for written, endpoint in self.endpoints.items():
            listening = maybeDeferred(endpoint.listen, self.door)
            listening.addCallback(self._listening, written.partition(":")[0])
            listening.addErrback(self._failed, written)

    def _listening(self, port: Any, kind: str) -> None:
        self.ports.append(port)
        if hasattr(port, "stopReading"):
            self.door.guard.watch(port)
        if hasattr(port, "getHost"):
            self.addresses.append(describe(kind, port.getHost()))
            self._unannounced.append(self.addresses[-1])
        if self.running:
            self._announce()

    def _announce(self) -> None:
        """Log where it listens, once every service of the process has been able to."""
        for address in self._unannounced:
            _log.info("{name}: listening on {address}", name=self.door.name, address=address)
        self._unannounced.clear()

    def _failed(self, failure: Failure, written: str) -> None:
        if not failure.check(*MENDABLE):
            _log.failure("{name}: {written}", failure, name=self.door.name, written=written)
        assert failure.value is not None
        reason = explain(failure.value)
        if isinstance(failure.value, CannotListenError):  # which names the place itself
            _remove_lock(failure.value)
        else:
            reason = f"cannot listen on {written}: {reason}"
        self.host.fail(reason)

    def pause(self) -> None:
        """Accept nobody any more; those inside stay."""
        for port in self.ports:
            self.door.guard.forget(port)
            if hasattr(port, "stopReading"):
                port.stopReading()

    def stopService(self) -> Deferred[None]:
        """Stop listening, then let every connection finish; fires when the last is gone."""
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        closing = [port for port in self.ports if hasattr(port, "stopListening")]
        self.ports.clear()
        self.addresses.clear()
        for port in closing:
            self.door.guard.forget(port)
            await maybeDeferred(port.stopListening)
        await self.door.drain()
        self._sweep.stop()


def _remove_lock(error: CannotListenError) -> None:
    """Remove the lock that Twisted leaves beside a UNIX socket which it could not bind."""
    if isinstance(error.port, bytes) and isinstance(error.socketError, OSError):
        lock = error.port + b".lock"
        with suppress(OSError):  # it may be none, or not be ours
            if os.readlink(lock) == str(os.getpid()).encode():  # noqa: PTH115 - of bytes
                os.unlink(lock)  # noqa: PTH108 - likewise


def describe(kind: str, address: Any) -> str:
    """Return an address as `tcp 127.0.0.1:9000`, `tcp [::1]:9000` or `unix /run/echo`."""
    host = getattr(address, "host", None)
    if host is None:
        name = getattr(address, "name", b"")
        return f"{kind} {name.decode('utf-8', 'replace') if isinstance(name, bytes) else name}"
    return f"{kind} [{host}]:{address.port}" if ":" in host else f"{kind} {host}:{address.port}"
