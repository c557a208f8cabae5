"""Sharing listening sockets: the supervisor binds them, the workers inherit and accept.

Both sides give an endpoint a wrapper in place of the reactor, so that what the endpoint puts on
its socket (TLS, the PROXY protocol) works in each worker as it does in a single process.
"""

import os
import re
import socket
from typing import Any

from attrs import define, field
from twisted.internet import tcp, unix
from twisted.internet.interfaces import IProtocolFactory

from evserve.host.listener import SharedUnixPort, adopt_port, port_from_descriptor


class _BoundTCPPort(tcp.Port):
    _shouldShutdown = False  # a shutdown would reach the workers, which share the socket


class _BoundUnixPort(unix.Port):
    _shouldShutdown = False  # but the file is removed when the supervisor closes the port


@define(eq=False)
class BindOnlyReactor:
    """The supervisor's reactor for one endpoint: binds and listens, but never accepts.

    port: the bound port; None until the endpoint listens, or if it needs no listening socket.
    """

    reactor: Any
    port: Any = field(init=False, default=None)

    def listenTCP(
        self, port: int, factory: IProtocolFactory, backlog: int = 50, interface: str = ""
    ) -> Any:
        return self._start(_BoundTCPPort(port, factory, backlog, interface, self))

    def listenUNIX(self, address: Any, factory: IProtocolFactory, **kwargs: Any) -> Any:
        return self._start(_BoundUnixPort(address, factory, reactor=self, **kwargs))

    def adoptStreamPort(self, fileno: int, family: int, factory: IProtocolFactory) -> Any:
        if family == socket.AF_UNIX:
            return self._start(port_from_descriptor(SharedUnixPort, self, fileno, factory))
        return self._start(port_from_descriptor(_BoundTCPPort, self, fileno, family, factory))

    def addReader(self, reader: Any) -> None:
        """Do nothing: only the workers accept."""

    def removeReader(self, reader: Any) -> None:
        """Do nothing: there was no reader to add."""

    def _start(self, port: Any) -> Any:
        port.startListening()
        self.port = port
        return port

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reactor, name)


@define(eq=False)
class InheritedSocketReactor:
    """A worker's reactor for one endpoint: accepts from the inherited socket `fileno`.

    The address that the endpoint asks for is ignored: the supervisor has bound it.
    """

    reactor: Any
    fileno: int

    def listenTCP(self, port: int, factory: IProtocolFactory, *args: Any, **kwargs: Any) -> Any:
        return self._adopt(factory)

    def listenUNIX(self, address: Any, factory: IProtocolFactory, **kwargs: Any) -> Any:
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


def without_systemd(endpoint: str) -> str:
    """Return an endpoint string with a placeholder for its `systemd:` part.

    systemd passed the socket to the supervisor; a worker inherits it like any other.
    """
    return re.sub(r"(^|:)systemd:.*", r"\1tcp:0", endpoint)
