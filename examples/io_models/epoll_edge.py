"""epoll, edge-triggered: the kernel reports a change of readiness, and only once.

Each connection is registered once for reading and writing, so no system call turns the interest
in writing on and off. Instead the program remembers which connections are ready. It may forget one
only after `recv` or `send` has failed with EAGAIN: only then will the kernel report it again.

Reading until EAGAIN in one go would also be correct, but a client that sends without end would
keep all others waiting. So the program does one piece of work for each ready connection in turn.

It costs one more call per message, the `recv` that fails, and saves those that change the
interest. It also costs care: a program that stops before EAGAIN waits for a report that never
comes. It breaks at the limit of open files.
"""

import select
import socket

from _common import accept_waiting, listen


EDGES = select.EPOLLIN | select.EPOLLOUT | select.EPOLLET


def main() -> None:
    """Do one piece of work for each ready connection; sleep if none is ready."""
    listener = listen()
    listener.setblocking(False)
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN | select.EPOLLET)
    connections: dict[int, socket.socket] = {}
    unsent: dict[int, bytes] = {}  # of each connection
    ready: set[int] = set()
    while True:
        ready.update(fd for fd, _ in epoll.poll(0 if ready else None))
        if listener.fileno() in ready:
            ready.remove(listener.fileno())
            for connection in accept_waiting(listener):  # accepts until EAGAIN
                connections[connection.fileno()] = connection
                unsent[connection.fileno()] = b""
                epoll.register(connection, EDGES)
        for fd in list(ready):
            connection = connections[fd]
            try:
                # Nothing is read before the last answer has been sent: a client that does not
                # read its answers is not read from, and costs one piece of memory.
                if not unsent[fd]:
                    unsent[fd] = connection.recv(65536).upper()
                if unsent[fd]:
                    unsent[fd] = unsent[fd][connection.send(unsent[fd]) :]
                    continue  # it may still be ready
            except BlockingIOError:  # EAGAIN: from now on the kernel reports again
                ready.remove(fd)
                continue
            except OSError:
                pass  # the connection was reset
            ready.remove(fd)
            connections.pop(fd).close()


if __name__ == "__main__":
    main()
