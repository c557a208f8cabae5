"""UNIX streams: addresses are paths, and file descriptors travel with the bytes."""

import os
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IFileDescriptorReceiver, ITLSTransport, IUNIXTransport
from typing_extensions import override
from zope.interface import implementer

from evserve.reactor.descriptors import DescriptorStream, DescriptorWriter, FirstRead
from evserve.reactor.stream import Stream


@implementer(IUNIXTransport, ITLSTransport)
class UNIXStream(Stream):
    """A connection over a UNIX socket, of either side."""

    _writer: DescriptorWriter | None = None  # once a descriptor was to be sent
    _first_read = False  # the first bytes have been read
    _addresses: tuple[Any, Any] = None, None

    @override
    def connection_made(self, uv: Any) -> None:
        # The addresses can't be read after the stream has closed.
        names = uv.get_extra_info("sockname"), uv.get_extra_info("peername")
        self._addresses = names[0] or None, names[1] or None
        super().connection_made(uv)

    @override
    def connect_protocol(self, protocol: Any) -> None:
        if IFileDescriptorReceiver.providedBy(protocol):
            transport: Any = DescriptorStream.replacing(self, protocol)
            self.discard()
            self.owner.transport_replaced(transport)
            transport.protocol.makeConnection(transport)
        else:
            super().connect_protocol(protocol)

    def getHost(self) -> Any:
        return UNIXAddress(self._addresses[0])

    def getPeer(self) -> Any:
        return UNIXAddress(self._addresses[1])

    @property
    def port_name(self) -> str:
        """The path of the port, for logs and the representation."""
        return os.fsdecode(self._addresses[0] or "")

    peer_name = port_name

    # Twisted's own UNIX transport has these two as well, from its TCP transport.

    def getTcpNoDelay(self) -> bool:
        return False

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    @override
    def set_uv_protocol(self) -> None:
        if self._first_read or self._early is not None:
            super().set_uv_protocol()
        else:
            self.uv.set_protocol(FirstRead(self))

    def end_first_read(self, data: bytes) -> None:
        """Deliver the first bytes; uvloop delivers those that follow."""
        self._first_read = True
        super().set_uv_protocol()
        if self.reading:
            self.deliver(data)
        else:
            self.hold(data)

    def sendFileDescriptor(self, descriptor: int) -> None:
        if self._writer is None:
            self._writer = DescriptorWriter(self)
        self._writer.send(descriptor)

    @override
    def resume_writing(self) -> None:
        if self._writer is None or self._writer.flush():
            super().resume_writing()

    @override
    def _release(self) -> None:
        super()._release()
        if self._writer is not None:
            self._writer.close()
        self._writer = None
