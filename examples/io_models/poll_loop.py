"""poll: register descriptors, sleep until one is ready, and have the kernel look through all.

What select does without its limit: the kernel gets a list of descriptors with the events wanted,
not bit sets. A connection is watched for reading, or for writing while it has an unsent answer.

It costs as select does: the whole list is copied into the kernel and searched there at every
call, and searched again by the caller, however few of the connections have something to say.

It breaks nowhere but at the limit of open files; with thousands of connections it is only slow.
epoll, which keeps the list in the kernel, is the answer to that.
"""

import contextlib
import functools
import resource
import select
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
        sys.exit(f"poll_loop: {error}")
    print(f"poll_loop: listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
    return listener


@functools.cache  # once for each reason
def complain(reason: str) -> None:
    """Say where this model breaks, and go on serving whom it can."""
    print(f"poll_loop: {reason}", file=sys.stderr)


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
    """Sleep until something is ready, do it, and sleep again."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a traceback
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
    listener = listen()
    listener.setblocking(False)
    poller = select.poll()
    poller.register(listener, select.POLLIN)
    connections: dict[int, socket.socket] = {}
    unsent: dict[int, bytes] = {}  # what each connection has still to be sent
    while True:
        for fd, _ in poller.poll():
            if fd == listener.fileno():
                for connection in newcomers(listener):
                    connections[connection.fileno()] = connection
                    unsent[connection.fileno()] = b""
                    poller.register(connection, select.POLLIN)
                continue
            rest = step(connections[fd], unsent[fd])
            if rest is None:
                poller.unregister(fd)
                connections.pop(fd).close()
                continue
            if bool(rest) != bool(unsent[fd]):
                poller.modify(fd, select.POLLOUT if rest else select.POLLIN)
            unsent[fd] = rest


if __name__ == "__main__":
    main()
