"""Thread per connection: the main thread only accepts, and a new thread serves each client.

Each thread blocks in `recv` and `sendall`; the kernel runs those that have something to do. The
code is that of the blocking server plus one line. Memory is shared, with its benefits and dangers.

It costs a stack for each client (8 MiB of address space, of which only the used part is memory)
and a switch by the kernel's scheduler for each message. Only the thread that holds the
interpreter's lock runs Python, so more cores do not help.

It breaks when the system allows no more threads or memory maps, or the process no more open files:
the client's connection is closed.
"""

import contextlib
import socket
import threading

from _common import listen, warn


def serve(connection: socket.socket) -> None:
    """Answer in capitals until the client has sent its last byte."""
    with connection, contextlib.suppress(OSError):
        while data := connection.recv(65536):
            connection.sendall(data.upper())


def main() -> None:
    """Accept, and start a thread for each client."""
    listener = listen()
    while True:
        connection, _ = listener.accept()
        try:
            connection.dup().close()  # fails if no descriptor is left for the next `accept`
            threading.Thread(target=serve, args=[connection], daemon=True).start()
        except (OSError, RuntimeError) as error:
            warn(str(error))
            connection.close()


if __name__ == "__main__":
    main()
