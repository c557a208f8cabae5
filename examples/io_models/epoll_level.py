"""epoll, level-triggered: the kernel keeps the list, and returns only the ready descriptors.

A descriptor is registered once. From then on, arriving data puts it on a list of ready ones,
which `epoll_wait` returns. What counts is the length of that list, not the number of connections.

Level-triggered means that a descriptor is reported as long as it is ready. Bytes that are not read
now are reported again, so one read per report is enough. But an event that the program is not
interested in must be turned off, or it is reported without end: one more system call when an
answer does not fit into the send buffer.

It costs one system call for each change of interest, and little for an idle connection.
It breaks at the limit of open files. It exists only on Linux; BSD and macOS have kqueue.
"""

import select
import socket

from _common import accept_waiting, listen


def step(connection: socket.socket, unsent: bytes) -> bytes | None:
    """Do what is possible now; return the bytes that are still unsent, None at the end."""
    try:
        # Nothing is read before the last answer has been sent: a client that does not read
        # its answers is not read from, and costs one piece of memory.
        if not unsent and not (unsent := connection.recv(65536).upper()):
            return None
        return unsent[connection.send(unsent) :]
    except BlockingIOError:
        return unsent
    except OSError:
        return None


def main() -> None:
    """Sleep until something is ready, handle it, and sleep again."""
    listener = listen()
    listener.setblocking(False)
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN)
    connections: dict[int, socket.socket] = {}
    unsent: dict[int, bytes] = {}  # of each connection
    while True:
        for fd, _ in epoll.poll():
            if fd == listener.fileno():
                for connection in accept_waiting(listener):
                    connections[connection.fileno()] = connection
                    unsent[connection.fileno()] = b""
                    epoll.register(connection, select.EPOLLIN)
                continue
            rest = step(connections[fd], unsent[fd])
            if rest is None:
                connections.pop(fd).close()  # which also removes it from epoll
                continue
            if bool(rest) != bool(unsent[fd]):
                epoll.modify(fd, select.EPOLLOUT if rest else select.EPOLLIN)
            unsent[fd] = rest


if __name__ == "__main__":
    main()
