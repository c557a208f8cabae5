"""What Twisted's TLS transport must be told so that a client gets its last bytes.

A client that writes and closes is common, and its close_notify often comes with its last bytes.
Twisted answers it at once, which defeats an echo in two ways, each mended here:

- It gathers writes until the reactor's next turn, and what is gathered by then is dropped. So
  echo writes past the gathering, which a reply per read has no use for anyway.
- It closes the socket beneath a producer it may have paused; the socket then waits for the
  producer, for ever. So the producer is taken away when it is asked for more on a closing socket.

What `--delay` still owes is lost: after close_notify Twisted's TLS sends nothing more.
"""

from collections.abc import Callable
from types import MethodType
from typing import Any

from attrs import define
from twisted.internet.interfaces import IPushProducer
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from evserve.echo.transport import PushProducer, StreamTransport


def direct_write(transport: StreamTransport) -> Callable[[bytes], None]:
    """Return the transport's `write`, without the gathering if it is TLS."""
    if isinstance(transport, TLSMemoryBIOProtocol):
        return MethodType(TLSMemoryBIOProtocol.write, transport)
    return transport.write


def steady_producer(producer: PushProducer, transport: StreamTransport) -> PushProducer:
    """Return `producer`, fit to be registered on `transport`."""
    if isinstance(transport, TLSMemoryBIOProtocol):
        return _TLSProducer(producer, transport)
    return producer


@implementer(IPushProducer)
@define(eq=False)
class _TLSProducer:
    _producer: PushProducer
    _transport: Any  # a TLSMemoryBIOProtocol, whose own transport is a socket's

    def pauseProducing(self) -> None:
        self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        self._producer.resumeProducing()
        if self._transport.transport.disconnecting:
            self._transport.unregisterProducer()

    def stopProducing(self) -> None:
        self._producer.stopProducing()
