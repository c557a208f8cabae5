"""Thread pool: a fixed number of threads, each of which accepts and serves one client at a time.

All of them block in `accept` on the same socket; the kernel gives each new client to one. The cost
is known before the program starts: the number of threads, stacks and open files.

It serves exactly as many clients at once as it has threads. The next one waits in the listen
backlog until another closes, however idle the others are: right for short requests, wrong for
clients that stay.

It breaks with the first client more than there are threads, as the blocking server breaks with the
second.
"""

import contextlib
import signal
import socket
import threading

from _common import listen


SIZE = 8


def work(listener: socket.socket) -> None:
    """Serve one client after the other, in a thread of the pool."""
    while True:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(65536):
                connection.sendall(data.upper())


def main() -> None:
    """Start the threads, which do the rest."""
    listener = listen()
    for _ in range(SIZE):
        threading.Thread(target=work, args=[listener], daemon=True).start()
    signal.pause()


if __name__ == "__main__":
    main()
