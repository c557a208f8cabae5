"""epoll, edge-triggered: the kernel reports only that something has changed, and only once.

Each connection is registered once for everything, and never again: no system call turns the
interest in writing on and off. Instead the program remembers who is ready. It may forget a
connection only when `recv` or `send` has failed with EAGAIN: only then comes another report.

Reading until EAGAIN in one go would be right, too, but whoever sends without end would keep
everybody else waiting. So everybody who is ready gets one piece done in turn.

It costs one call more for each message, the `recv` that fails, and saves those that turn an
interest on and off. And it costs care: a program that stops before EAGAIN waits for a report that
never comes. It breaks at the limit of open files.
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
EDGES = select.EPOLLIN | select.EPOLLOUT | select.EPOLLET


def listen() -> socket.socket:
    """Listen on the port that the command line names, 9000 if it names none."""
    try:
        port = int(sys.argv[1]) if sys.argv[1:] else 9000
        listener = socket.create_server(("127.0.0.1", port), backlog=socket.SOMAXCONN)
    except (OSError, OverflowError, ValueError) as error:
        sys.exit(f"epoll_edge: {error}")
    print(f"epoll_edge: listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
    return listener


@functools.cache  # once for each reason
def complain(reason: str) -> None:
    """Say where this model breaks, and go on serving whom it can."""
    print(f"epoll_edge: {reason}", file=sys.stderr)


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


def main() -> None:
    """Sleep unless somebody is known to be ready; do one piece for each of them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a traceback
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
    listener = listen()
    listener.setblocking(False)
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN | select.EPOLLET)
    connections: dict[int, socket.socket] = {}
    unsent: dict[int, bytes] = {}  # what each connection has still to be sent
    ready: set[int] = set()
    while True:
        ready.update(fd for fd, _ in epoll.poll(0 if ready else None))
        if listener.fileno() in ready:
            ready.remove(listener.fileno())
            for connection in newcomers(listener):  # all of them: until EAGAIN
                connections[connection.fileno()] = connection
                unsent[connection.fileno()] = b""
                epoll.register(connection, EDGES)
        for fd in list(ready):
            connection = connections[fd]
            try:
                # Nothing is read before the last answer is gone: a client that does not read its
                # answers is not listened to, and costs one piece of memory.
                if not unsent[fd]:
                    unsent[fd] = connection.recv(65536).upper()
                if unsent[fd]:
                    unsent[fd] = unsent[fd][connection.send(unsent[fd]) :]
                    continue  # still ready, for all that is known
            except BlockingIOError:  # EAGAIN: from now on the kernel reports again
                ready.remove(fd)
                continue
            except OSError:
                pass  # the client has vanished
            ready.remove(fd)
            connections.pop(fd).close()


if __name__ == "__main__":
    main()
