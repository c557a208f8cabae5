"""Sending a reply without waiting for the reactor's next turn.

`transport.write` of Twisted's own TCP and UNIX transports only queues: the reactor is asked to
watch for writability, looks, sends, and is asked to stop watching. For a short reply to a client
that is waiting for it that is half of the server's work, and the socket can nearly always take it
at once. Other transports (TLS, a reactor of another kind, tests) are written to as usual.
"""

from collections.abc import Callable
from typing import Any

from twisted.internet.tcp import Connection


def sender(transport: Any) -> Callable[[bytes], None]:
    """Return what to call instead of `transport.write`."""
    if not isinstance(transport, Connection) or transport.TLS:
        write: Callable[[bytes], None] = transport.write
        return write

    def send(data: bytes) -> None:
        if transport.dataBuffer or transport._tempDataBuffer:  # noqa: SLF001 - half of its queue
            transport.write(data)
            return
        sent = transport.writeSomeData(data)
        if not isinstance(sent, int):
            sent = 0  # the connection is lost, which is for `write` to find out
        if sent < len(data):
            transport.write(data[sent:])

    return send
