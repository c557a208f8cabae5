"""One listening socket in several processes: bound in the parent, adopted in the workers.

Both halves stand in for the reactor below an endpoint, so that whatever an endpoint wraps around
its socket (TLS, the PROXY protocol) is wrapped in each worker as usual.
"""

import os
import re
import socket
from typing import Any

from attrs import define, field
from twisted.internet import tcp, unix
from twisted.internet.interfaces import IProtocolFactory
from twisted.protocols.tls import TLSMemoryBIOFactory

from evserve.host.listener import SharedUnixPort, adopt_port, port_from_descriptor


class BoundPort(tcp.Port):
    """A TCP port that can be closed here without being shut down for the workers."""

    _shouldShutdown = False


class BoundUnixPort(unix.Port):
    """The same for UNIX sockets; the file is removed when the parent closes it."""

    _shouldShutdown = False


@define(eq=False)
class Binder:
    """A reactor that binds and listens, but never accepts; `port` is what it bound."""

    reactor: Any
    port: Any = field(init=False, default=None)

    def listenTCP(
        self, port: int, factory: IProtocolFactory, backlog: int = 50, interface: str = ""
    ) -> Any:
        """See IReactorTCP."""
        return self._start(BoundPort(port, factory, backlog, interface, self))

    def listenSSL(
        self,
        port: int,
        factory: IProtocolFactory,
        contextFactory: Any,
        backlog: int = 50,
        interface: str = "",
    ) -> Any:
        """See IReactorSSL."""
        return self.listenTCP(port, factory, backlog, interface)

    def listenUNIX(
        self,
        address: Any,
        factory: IProtocolFactory,
        backlog: int = 50,
        mode: int = 0o666,
        wantPID: int = 0,
    ) -> Any:
        """See IReactorUNIX."""
        return self._start(BoundUnixPort(address, factory, backlog, mode, self, wantPID))

    def adoptStreamPort(self, fileno: int, family: int, factory: IProtocolFactory) -> Any:
        """See IReactorSocket."""
        if family == socket.AF_UNIX:
            return self._start(port_from_descriptor(SharedUnixPort, self, fileno, factory))
        return self._start(port_from_descriptor(BoundPort, self, fileno, family, factory))

    def addReader(self, reader: Any) -> None:
        """Do not accept: that is for the workers."""

    def removeReader(self, reader: Any) -> None:
        """There is nothing to stop."""

    def _start(self, port: Any) -> Any:
        port.startListening()
        self.port = port
        return port

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reactor, name)


@define(eq=False)
class Adopter:
    """A reactor that, wherever it is told to listen, accepts from the inherited `fileno`."""

    reactor: Any
    fileno: int

    def listenTCP(
        self, port: int, factory: IProtocolFactory, backlog: int = 50, interface: str = ""
    ) -> Any:
        """See IReactorTCP."""
        return self._adopt(factory)

    def listenSSL(
        self,
        port: int,
        factory: IProtocolFactory,
        contextFactory: Any,
        backlog: int = 50,
        interface: str = "",
    ) -> Any:
        """See IReactorSSL."""
        return self._adopt(TLSMemoryBIOFactory(contextFactory, False, factory))

    def listenUNIX(
        self,
        address: Any,
        factory: IProtocolFactory,
        backlog: int = 50,
        mode: int = 0o666,
        wantPID: int = 0,
    ) -> Any:
        """See IReactorUNIX."""
        return self._adopt(factory)

    def _adopt(self, factory: IProtocolFactory) -> Any:
        inherited = socket.socket(fileno=os.dup(self.fileno))
        with inherited:
            inherited.setblocking(False)
            port = adopt_port(self.reactor, inherited.fileno(), inherited.family, factory)
        os.close(self.fileno)
        return port

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reactor, name)


def adoptable(written: str) -> str:
    """Return an endpoint with something in place of `systemd:`.

    In a worker the socket is the parent's in any case, and there is nothing that systemd passed.
    """
    return re.sub(r"(^|:)systemd:.*", r"\1tcp:0", written)
