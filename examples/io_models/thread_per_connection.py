"""Thread per connection: the main thread only accepts, a thread of its own serves each client.

Each thread blocks in `recv` and `sendall`; the kernel runs whichever has something to do. The
code is that of the blocking server plus one line, and memory is shared, for better and for worse.

It costs a stack for each client (8 MiB of address space, of which what was touched is memory) and
a switch by the kernel's scheduler for each message. Only one thread at a time runs Python, the
one that holds the interpreter's lock, so more cores do not help.

It breaks where the system allows no more threads or memory maps, or the process no more open
files: the client is turned away.
"""

import contextlib
import socket
import threading

from _common import complain, listen


def serve(connection: socket.socket) -> None:
    """Answer in capitals until the client has sent its last byte."""
    with connection, contextlib.suppress(OSError):
        while data := connection.recv(65536):
            connection.sendall(data.upper())


def main() -> None:
    """Accept, and start a thread for whoever has come."""
    listener = listen()
    while True:
        connection, _ = listener.accept()
        try:
            connection.dup().close()  # is a descriptor left for the next `accept`?
            threading.Thread(target=serve, args=[connection], daemon=True).start()
        except (OSError, RuntimeError) as error:
            complain(str(error))
            connection.close()


if __name__ == "__main__":
    main()
