"""Thread pool: a fixed number of threads, each of which accepts and serves one client at a time.

All of them block in `accept` on the same socket; the kernel gives each newcomer to one. What the
program costs is known before it starts: so many threads, so many stacks, so many open files.

It serves exactly as many clients at once as it has threads. The next one waits in the listen
backlog until somebody closes, however idle the others are: right for short requests, wrong for
clients that stay.

It breaks with the first client more than there are threads, as the blocking server breaks with
the second.
"""

import contextlib
import signal
import socket
import threading

from _common import listen


SIZE = 8


def work(listener: socket.socket) -> None:
    """Serve one after the other, as each of the pool's threads does."""
    while True:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(65536):
                connection.sendall(data.upper())


def main() -> None:
    """Start the threads, and leave everything to them."""
    listener = listen()
    for _ in range(SIZE):
        threading.Thread(target=work, args=[listener], daemon=True).start()
    signal.pause()


if __name__ == "__main__":
    main()
