"""What the room needs of a stream transport: ITransport, IConsumer and IPushProducer in one."""

from typing import Protocol

from twisted.internet.interfaces import IAddress


class PushProducer(Protocol):
    """IPushProducer, for the type checker."""

    def pauseProducing(self) -> None:
        """See IPushProducer."""

    def resumeProducing(self) -> None:
        """See IPushProducer."""

    def stopProducing(self) -> None:
        """See IPushProducer."""


class StreamTransport(PushProducer, Protocol):
    """What every TCP, UNIX and TLS transport is, for the type checker."""

    def write(self, data: bytes) -> None:
        """See ITransport."""

    def writeSequence(self, data: list[bytes]) -> None:
        """See ITransport."""

    def loseConnection(self) -> None:
        """See ITransport."""

    def getPeer(self) -> IAddress:
        """See ITransport."""

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """See IConsumer."""

    def unregisterProducer(self) -> None:
        """See IConsumer."""
