"""Blocking, one connection at a time: accept, serve until it closes, accept the next.

`accept`, `recv` and `sendall` put the process to sleep until the kernel has something for it.
Nothing is simpler: waiting takes no CPU, and all state is on one stack.

It costs all other clients their time. The kernel completes their handshakes and keeps their first
bytes, so the server looks alive to them, but it does not answer.

It breaks with the second client: a first one that stays connected and sends nothing stalls all
others. When the listen backlog is full, the kernel ignores further handshakes.
"""

import contextlib
import socket

from _common import listen


def serve(connection: socket.socket) -> None:
    """Answer in capitals until the client has sent its last byte."""
    while data := connection.recv(65536):
        connection.sendall(data.upper())


def main() -> None:
    """Serve one client after the other."""
    listener = listen()
    while True:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            serve(connection)


if __name__ == "__main__":
    main()
