"""One connection to a server factory: the client and the network are in memory."""

import sys

from attrs import define, field
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IPushProducer,
    ITCPTransport,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer


log = Logger()
HIGH_WATER = 65536  # bytes that wait for the client before the server's producer is paused


@implementer(ITCPTransport, IConsumer, IPushProducer)
@define(eq=False)
class MemoryConnection:
    """A transport as TCP's is: it delivers nothing while paused, and ends after what is written.

    `sent` is what the client has read, `held` what waits because it does not read.
    """

    protocol: object = None
    sent: bytearray = field(factory=bytearray)
    held: bytearray = field(factory=bytearray)
    client_reads: bool = True
    connected: bool = True
    disconnecting: bool = False
    aborted: bool = False
    reading: bool = True
    producer: object = None
    peer: object = field(factory=lambda: IPv4Address("TCP", "192.0.2.7", 4711))
    _arrived: list = field(factory=list)
    _client_ended: bool = False
    _told_end: bool = False
    _streaming: bool = False
    _producer_paused: bool = False
    _delivering: bool = False

    # what the client does

    def receive(self, data):
        """Let `data` arrive; it is kept while the server does not read."""
        self._arrived.append(data)
        self._deliver()

    def end(self):
        """The client sends no more."""
        self._client_ended = True
        self._deliver()

    def stop_reading(self):
        self.client_reads = False

    def read_again(self):
        self.client_reads = True
        self._flush()

    @property
    def state(self):
        """Return what the client sees of the connection."""
        if self.aborted:
            return "aborted"
        if not self.connected:
            return "closed"
        return "closing" if self.disconnecting else "open"

    def settle(self):
        """Do what the reactor would do by itself."""
        self._deliver()
        self._flush()
        waits = self.producer is not None and (self._producer_paused or not self._streaming)
        if self.disconnecting and not self.held and not waits:
            self._lose(ConnectionDone())

    def _deliver(self):
        if self._delivering:
            return
        self._delivering = True
        while self._arrived and self._may_read():
            try:
                self.protocol.dataReceived(self._arrived.pop(0))
            except Exception:  # as a reactor does
                log.failure("dataReceived")
                self._lose(sys.exc_info()[1])
        self._delivering = False
        if self._client_ended and not self._told_end and not self._arrived and self._may_read():
            self._told_end = True
            if IHalfCloseableProtocol.providedBy(self.protocol):
                self.protocol.readConnectionLost()
            else:
                self._lose(ConnectionDone())

    def _may_read(self):
        return self.reading and self.connected and not self.disconnecting

    def _flush(self):
        if not self.client_reads or not self.connected:
            return
        self.sent += self.held
        self.held.clear()
        if self.producer is not None and (self._producer_paused or not self._streaming):
            self._producer_paused = False
            self.producer.resumeProducing()

    def _lose(self, reason):
        if self.connected:
            self.connected = False
            self.protocol.connectionLost(Failure(reason))

    # what the server calls

    def write(self, data):
        assert isinstance(data, bytes), data
        if not self.connected or self.aborted:
            return
        if self.client_reads and not self.held:
            self.sent += data
        else:
            self.held += data
        if len(self.held) > HIGH_WATER and self._streaming and not self._producer_paused:
            self._producer_paused = True
            self.producer.pauseProducing()

    def writeSequence(self, pieces):
        self.write(b"".join(pieces))

    def loseConnection(self):
        self.disconnecting = True

    def abortConnection(self):
        self.aborted = self.disconnecting = True
        self._lose(ConnectionAborted())

    def pauseProducing(self):
        self.reading = False

    def resumeProducing(self):
        if self.connected and not self.disconnecting:
            self.reading = True

    def stopProducing(self):
        self.loseConnection()

    def registerProducer(self, producer, streaming):
        assert self.producer is None
        self.producer, self._streaming = producer, streaming
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self):
        self.producer = None

    def getPeer(self):
        return self.peer

    def getHost(self):
        return IPv4Address("TCP", "192.0.2.1", 80)

    def setTcpNoDelay(self, enabled):
        pass

    def getTcpNoDelay(self):
        return True

    def setTcpKeepAlive(self, enabled):
        pass

    def getTcpKeepAlive(self):
        return False

    def loseWriteConnection(self):
        raise NotImplementedError("no HTTP server closes one half")


def connect(factory, kind=MemoryConnection):
    """Return a connection to a server's factory."""
    connection = kind()
    connection.protocol = factory.buildProtocol(connection.peer)
    connection.protocol.makeConnection(connection)
    return connection
