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

import select
import socket

from _common import listen, newcomers


EDGES = select.EPOLLIN | select.EPOLLOUT | select.EPOLLET


def main() -> None:
    """Sleep unless somebody is known to be ready; do one piece for each of them."""
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
