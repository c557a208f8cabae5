"""Non-blocking polling: ask every connection again and again whether there is something to do.

No call ever waits: what cannot be done now fails with EAGAIN (`BlockingIOError`), and the program
goes on to the next connection. One thread serves everybody, and nobody stalls anybody.

It costs a system call for each connection and round, nearly all of which say "not yet". A core is
busy as long as the program runs, most of all when nothing happens, and a message waits until its
connection's turn comes: half a round, which grows with the number of connections.

It breaks as a matter of arithmetic: rounds become so long that the answers come too late. Asking
the kernel once about all connections, and sleeping meanwhile, is what `select` was made for.
"""

import contextlib
import functools
import resource
import signal
import socket
import sys
from collections.abc import Iterator


LIMIT = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # open files that we may have


def listen() -> socket.socket:
    """Listen on the port that the command line names, 9000 if it names none."""
    try:
        port = int(sys.argv[1]) if sys.argv[1:] else 9000
        listener = socket.create_server(("127.0.0.1", port), backlog=socket.SOMAXCONN)
    except (OSError, OverflowError, ValueError) as error:
        sys.exit(f"nonblocking_polling: {error}")
    print(f"nonblocking_polling: listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
    return listener


@functools.cache  # once for each reason
def complain(reason: str) -> None:
    """Say where this model breaks, and go on serving whom it can."""
    print(f"nonblocking_polling: {reason}", file=sys.stderr)


def newcomers(listener: socket.socket) -> Iterator[socket.socket]:
    """Accept everybody who waits; turn away who would take the last descriptor."""
    with contextlib.suppress(BlockingIOError):
        while True:
            connection, _ = listener.accept()
            if connection.fileno() < LIMIT - 1:
                connection.setblocking(False)
                yield connection
            else:
                complain(f"out of descriptors: `ulimit -Hn` allows {LIMIT}")
                connection.close()


def step(connection: socket.socket, unsent: bytes) -> bytes | None:
    """Do what can be done now; return what is still to be sent, None at the end."""
    try:
        # Nothing is read before the last answer is gone: a client that does not read its
        # answers is not listened to, and costs one piece of memory.
        if not unsent and not (unsent := connection.recv(65536).upper()):
            return None
        return unsent[connection.send(unsent) :]
    except BlockingIOError:
        return unsent
    except OSError:
        return None


def main() -> None:
    """Ask the listener, ask every connection, and again."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a traceback
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
    listener = listen()
    listener.setblocking(False)
    unsent: dict[socket.socket, bytes] = {}  # what each connection has still to be sent
    while True:
        unsent.update((connection, b"") for connection in newcomers(listener))
        for connection in list(unsent):
            rest = step(connection, unsent[connection])
            if rest is None:
                del unsent[connection]
                connection.close()
            else:
                unsent[connection] = rest


if __name__ == "__main__":
    main()
