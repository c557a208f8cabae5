"""A transport whose kernel says when data moved last."""

import socket
import struct

from twisted.internet.testing import StringTransport


class Handle:
    """A socket that says how long ago it sent and received something, in seconds."""

    def __init__(self, sent, received=0.0, sends=1, receives=1, *, unsent=0, size=160):
        self.info = struct.pack(
            "=44xI4xI88xI4xII", int(sent * 1000), int(received * 1000), unsent, receives, sends
        )[:size]

    def getsockopt(self, level, option, size):
        assert (level, option) == (socket.IPPROTO_TCP, socket.TCP_INFO)
        return self.info


class TimedTransport(StringTransport):
    producerPaused = False

    @property
    def streamingProducer(self):
        return self.streaming

    def __init__(self, handle=None):
        super().__init__()
        self.handle = handle

    def getHandle(self):
        if self.handle is None:
            raise AttributeError
        return self.handle
