"""UNIX streams: addresses that are paths, and descriptors that travel with the bytes."""

import os
import socket
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IFileDescriptorReceiver, ITLSTransport, IUNIXTransport
from zope.interface import implementer

from evserve.reactor.descriptors import DescriptorStream, DescriptorWriter, FirstRead
from evserve.reactor.stream import Stream


@implementer(IUNIXTransport, ITLSTransport)
class UNIXStream(Stream):
    """A connection over a UNIX socket, of either side."""

    family = socket.AF_UNIX
    _writer: DescriptorWriter | None = None
    _looked = False  # the first bytes have been read
    _addresses: tuple[Any, Any] = None, None

    def connection_made(self, uv: Any) -> None:
        """Note the addresses, which can't be asked for when it is closed."""
        names = uv.get_extra_info("sockname"), uv.get_extra_info("peername")
        self._addresses = names[0] or None, names[1] or None
        super().connection_made(uv)

    def getHost(self) -> Any:
        """See IUNIXTransport."""
        return UNIXAddress(self._addresses[0])

    def getPeer(self) -> Any:
        """See IUNIXTransport."""
        return UNIXAddress(self._addresses[1])

    @property
    def place(self) -> str:
        """The path of the port."""
        return os.fsdecode(self._addresses[0] or "")

    peer_name = place

    def getTcpNoDelay(self) -> bool:
        """Return what Twisted's own UNIX transport returns to those who mistake it for TCP."""
        return False

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Ignore those who mistake it for TCP, as Twisted does."""

    def sendFileDescriptor(self, descriptor: int) -> None:
        """See IUNIXTransport."""
        if self._writer is None:
            self._writer = DescriptorWriter(self)
        self._writer.send(descriptor)

    def read_natively(self) -> None:
        """Let uvloop read, but for the first bytes."""
        if self._looked or self._early is not None:
            super().read_natively()
        else:
            self.uv.set_protocol(FirstRead(self))

    def take_over_reading(self, data: bytes) -> None:
        """Deliver the first bytes; from the next on uvloop delivers."""
        self._looked = True
        super().read_natively()
        if self.reading:
            self.deliver(data)
        else:
            self.hold(data)

    def take_up(self, protocol: Any) -> None:
        """Make way for Twisted's transport if the protocol wants descriptors."""
        if not IFileDescriptorReceiver.providedBy(protocol):
            super().take_up(protocol)
            return
        transport: Any = DescriptorStream.instead_of(self, protocol, self.owner)
        self.abandon()
        self.owner.replace(transport)
        takes: Any = protocol
        takes.makeConnection(transport)

    @property
    def is_busy(self) -> bool:
        """Whether descriptors are to be sent before the stream closes."""
        return super().is_busy or (self._writer is not None and self._writer.busy)

    def _forget(self) -> None:
        """Let go of everything that would make a circle."""
        super()._forget()
        if self._writer is not None:
            self._writer.close()
        self._writer = None
