"""Asks a server for a websocket once, checks its echo, and takes the lengths of the answers."""

import socket
from typing import Final

from benchmarks.reactor.measure import Load, Server


_OPENING: Final = (
    b"GET /echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_TEXT: Final = b"hello, websocket"
# RFC 6455, 5.2: a text in one frame; a client masks it, here with zeros, which change nothing.
_REQUEST: Final = bytes([0x81, 0x80 | len(_TEXT), 0, 0, 0, 0]) + _TEXT
_ECHO: Final = bytes([0x81, len(_TEXT)]) + _TEXT


def probe_websocket(server: Server, connections: int) -> Load:
    """Return the load of an echo; a wrong answer raises ValueError."""
    with socket.create_connection(("127.0.0.1", server.port), 60) as client:
        reader = client.makefile("rb")
        client.sendall(_OPENING)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = reader.readline()
            if not line:
                raise ValueError(f"no websocket: {head!r}")
            head += line
        client.sendall(_REQUEST)
        echo = reader.read(len(_ECHO))
    if b" 101 " not in head or echo != _ECHO:
        raise ValueError(f"no websocket: {head!r} {echo!r}")
    return Load(connections, _REQUEST, len(_ECHO), opening=_OPENING, opening_answer=len(head))
