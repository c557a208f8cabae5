"""Blocking, one connection at a time: accept, serve until it closes, accept the next.

`accept`, `recv` and `sendall` put the process to sleep until the kernel has something for it.
Nothing is simpler, waiting takes no CPU, and all state is on one stack.

It costs everybody else their time. The kernel completes the handshake of those who come meanwhile
and keeps their first bytes, so to them the server looks alive, but nobody answers.

It breaks with the second client: one that stays connected and says nothing stalls all others for
ever. With the listen backlog full, the kernel leaves further handshakes unanswered.
"""

import contextlib
import socket

from _common import listen


def serve(connection: socket.socket) -> None:
    """Answer in capitals until the client has sent its last byte."""
    while data := connection.recv(65536):
        connection.sendall(data.upper())


def main() -> None:
    """Serve one after the other."""
    listener = listen()
    while True:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            serve(connection)


if __name__ == "__main__":
    main()
