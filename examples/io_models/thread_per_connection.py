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
import functools
import resource
import signal
import socket
import sys
import threading


def listen() -> socket.socket:
    """Listen on the port that the command line names, 9000 if it names none."""
    try:
        port = int(sys.argv[1]) if sys.argv[1:] else 9000
        listener = socket.create_server(("127.0.0.1", port), backlog=socket.SOMAXCONN)
    except (OSError, OverflowError, ValueError) as error:
        sys.exit(f"thread_per_connection: {error}")
    print(f"thread_per_connection: listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
    return listener


@functools.cache  # once for each reason
def complain(reason: str) -> None:
    """Say where this model breaks, and go on serving whom it can."""
    print(f"thread_per_connection: {reason}", file=sys.stderr)


def serve(connection: socket.socket) -> None:
    """Answer in capitals until the client has sent its last byte."""
    with connection, contextlib.suppress(OSError):
        while data := connection.recv(65536):
            connection.sendall(data.upper())


def main() -> None:
    """Accept, and start a thread for whoever has come."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a traceback
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
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
