"""Listening sockets that somebody else bound: systemd, or the parent of the workers.

Twisted adopts them, but treats a UNIX socket as its own: it changes the mode of the file, and in
the end removes it and shuts the socket down for every process that shares it.
"""

import socket
from typing import Any

from attrs import define
from twisted.internet import tcp, unix
from twisted.internet.interfaces import IProtocolFactory


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
