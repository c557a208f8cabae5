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
import sys
import threading


SIZE = 8


def listen() -> socket.socket:
    """Listen on the port that the command line names, 9000 if it names none."""
    try:
        port = int(sys.argv[1]) if sys.argv[1:] else 9000
        listener = socket.create_server(("127.0.0.1", port), backlog=socket.SOMAXCONN)
    except (OSError, OverflowError, ValueError) as error:
        sys.exit(f"thread_pool: {error}")
    print(f"thread_pool: listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
    return listener


def work(listener: socket.socket) -> None:
    """Serve one after the other, as each of the pool's threads does."""
    while True:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(65536):
                connection.sendall(data.upper())


def main() -> None:
    """Start the threads, and leave everything to them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a traceback
    listener = listen()
    for _ in range(SIZE):
        threading.Thread(target=work, args=[listener], daemon=True).start()
    signal.pause()


if __name__ == "__main__":
    main()
