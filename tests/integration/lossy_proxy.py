"""A TCP proxy on the reactor whose network can be frozen, cut and mended."""

import ctypes
import os
import socket
import struct
from contextlib import suppress

from twisted.internet.defer import ensureDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory, Protocol


SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27

# A program of the kernel's packet filter with one instruction: keep no byte of any packet.
_DROP = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
DROP_ALL = struct.pack("HP", 1, ctypes.addressof(_DROP))


def drop_packets(transport, drop):
    """Let the kernel drop every packet that arrives for a transport or a listening port."""
    with suppress(OSError), socket.socket(fileno=os.dup(transport.fileno())) as copy:
        if drop:
            copy.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, DROP_ALL)
        else:
            copy.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)


class LossyProxy:
    """Listens on 127.0.0.1:`port`, and connects clients to the first of `targets` that listens.

    Frozen means that the network drops every packet, in both directions, so that not even the
    kernels of the two ends get an answer; packets are sent again after `mend`.
    """

    def __init__(self, *targets):
        self.targets = targets  # ports
        self.pairs = set()
        self.frozen = self.refusing = False
        self.left = None  # bytes of replies until `what_then` is called
        self.replied = 0  # bytes of replies passed on
        self.what_then = None
        self.listener = self.port = None

    async def listen(self):
        from twisted.internet import reactor

        factory = Factory.forProtocol(lambda: _Client(self))
        endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        self.listener = await endpoint.listen(factory)
        self.port = self.listener.getHost().port
        return self

    async def close(self):
        self.cut()
        await self.listener.stopListening()

    def freeze(self):
        """Drop all packets of open and of new connections until `mend` is called."""
        self.frozen = True
        drop_packets(self.listener, True)
        for pair in self.pairs:
            pair.drop_packets(True)

    def mend(self):
        """Pass on everything from now on, first what was held back."""
        self.left = self.what_then = None
        self.frozen = self.refusing = False
        drop_packets(self.listener, False)
        for pair in list(self.pairs):
            pair.drop_packets(False)
            pair.pass_on()

    def cut(self):
        """Reset all connections."""
        for pair in list(self.pairs):
            pair.cut()

    def refuse(self):
        """Reset all connections, and new ones as well until `mend` is called."""
        self.refusing = True
        self.cut()

    def after_replies(self, count, what_then):
        """Call `what_then` once `count` more bytes of replies were passed on, and not one more."""
        self.left, self.what_then = count, what_then

    def split(self, data):
        """Return what of a reply may be passed on, and what comes after the interruption."""
        if self.left is None or len(data) < self.left:
            self.left = None if self.left is None else self.left - len(data)
            return data, b""
        first, rest = data[: self.left], data[self.left :]
        self.left = None
        return first, rest


class _Client(Protocol):
    """A client's connection, with its counterpart `server` once that is open."""

    def __init__(self, proxy):
        self.proxy = proxy
        self.server = None
        self.held = []  # (from which side, data) of a frozen connection

    def connectionMade(self):
        if self.proxy.refusing:
            self.transport.abortConnection()
            return
        self.transport.setTcpNoDelay(True)
        self.proxy.pairs.add(self)
        self.drop_packets(self.proxy.frozen)
        ensureDeferred(self.connect())

    async def connect(self):
        from twisted.internet import reactor

        factory = Factory.forProtocol(lambda: _Server(self))
        for port in self.proxy.targets:
            with suppress(ConnectError):
                await TCP4ClientEndpoint(reactor, "127.0.0.1", port).connect(factory)
                return
        self.cut()

    def dataReceived(self, data):
        if self.server is None or self.proxy.frozen:
            self.held.append((self, data))
        else:
            self.server.transport.write(data)

    def reply(self, data):
        if self.proxy.frozen:
            self.held.append((self.server, data))
            return
        data, rest = self.proxy.split(data)
        self.proxy.replied += len(data)
        self.transport.write(data)
        if self.proxy.left is None and self.proxy.what_then is not None:
            what_then, self.proxy.what_then = self.proxy.what_then, None
            what_then()
            if rest:
                self.reply(rest)

    def drop_packets(self, drop):
        for side in (self, self.server):
            if side is not None and side.transport.connected:
                drop_packets(side.transport, drop)

    def pass_on(self):
        held, self.held = self.held, []
        for side, data in held:
            (self.dataReceived if side is self else self.reply)(data)

    def cut(self):
        for side in (self, self.server):
            if side is not None:
                side.transport.abortConnection()

    def connectionLost(self, reason):
        self.proxy.pairs.discard(self)
        if self.server is not None:
            self.server.transport.abortConnection()


class _Server(Protocol):
    def __init__(self, client):
        self.client = client

    def connectionMade(self):
        if self.client not in self.client.proxy.pairs:
            self.transport.abortConnection()
            return
        self.transport.setTcpNoDelay(True)
        self.client.server = self
        self.client.drop_packets(self.client.proxy.frozen)
        if not self.client.proxy.frozen:
            self.client.pass_on()

    def dataReceived(self, data):
        self.client.reply(data)

    def connectionLost(self, reason):
        self.client.cut()
