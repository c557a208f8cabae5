"""Closing connections on which nothing moves, in either direction.

One sweep looks at every connection now and then; nothing is added to the data path. Silence is
measured in received bytes, and only a connection that looks silent costs a question to the kernel
about what it sent.
"""

import socket
import struct
from typing import Any
from weakref import WeakKeyDictionary

from attrs import define, field
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from evserve.host.connection import Connection
from evserve.host.connections import Door


_log = Logger()

# struct tcp_info of Linux: eight single bytes, nine 32-bit fields, then the milliseconds since
# data was last sent.
_LAST_DATA_SENT = struct.Struct("=44xI")
_SWEEPS = 4  # a time-out: the precision is a quarter of it


@define(eq=False)
class IdleSweep:
    """Aborts each of a door's connections once it has been silent for the door's idle time-out."""

    door: Door
    _seen: WeakKeyDictionary[Connection, tuple[int, float]] = field(
        init=False, factory=WeakKeyDictionary
    )
    _loop: LoopingCall = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._loop = LoopingCall(self.sweep)
        self._loop.clock = self.door.reactor

    def start(self) -> None:
        """Begin, if the door has an idle time-out."""
        if self.door.limits.idle_timeout is not None:
            self._loop.start(self.door.limits.idle_timeout / _SWEEPS)

    def stop(self) -> None:
        """End."""
        if self._loop.running:
            self._loop.stop()

    def sweep(self) -> None:
        """Look at every connection once."""
        now = self.door.reactor.seconds()
        silent = [each for each in self.door.connections if self._is_silent(each, now)]
        for connection in silent:
            connection.abort()
        if silent:
            _log.info(
                "{name}: closed {count} idle connections", name=self.door.name, count=len(silent)
            )

    def _is_silent(self, connection: Connection, now: float) -> bool:
        received, since = self._seen.get(connection, (-1, now))
        if connection.received != received:
            self._seen[connection] = (connection.received, now)
            return False
        timeout = self.door.limits.idle_timeout or 0
        if now - since < timeout:
            return False
        sent = seconds_since_sent(connection.transport)
        return sent is None or sent >= timeout


def seconds_since_sent(transport: Any) -> float | None:
    """Ask the kernel how long ago a TCP transport last sent data; None where it cannot tell."""
    while hasattr(transport, "transport"):  # TLS, haproxy: layers around the connection
        transport = transport.transport
    try:
        info = transport.getHandle().getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        (milliseconds,) = _LAST_DATA_SENT.unpack_from(info)
    except (AttributeError, OSError, struct.error):
        return None
    return float(milliseconds) / 1000
