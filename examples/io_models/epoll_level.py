"""epoll, level-triggered: the kernel keeps the list, and returns only those that are ready.

A descriptor is registered once. From then on whatever arrives puts it on a list of ready ones,
and `epoll_wait` returns that list: its length counts, not the number of connections.

Level-triggered means: it is reported as long as it is ready. What was not read now is reported
again, so one piece for each report is enough. But whoever is not interested in an event must take
it off, or it is reported without end: one more system call when an answer does not fit.

It costs one system call for each change of what is watched, and little for an idle connection.
It breaks at the limit of open files. It is Linux only; BSD and macOS have kqueue.
"""

import select
import socket

from _common import listen, newcomers


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
    listener = listen()
    listener.setblocking(False)
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN)
    connections: dict[int, socket.socket] = {}
    unsent: dict[int, bytes] = {}  # what each connection has still to be sent
    while True:
        for fd, _ in epoll.poll():
            if fd == listener.fileno():
                for connection in newcomers(listener):
                    connections[connection.fileno()] = connection
                    unsent[connection.fileno()] = b""
                    epoll.register(connection, select.EPOLLIN)
                continue
            rest = step(connections[fd], unsent[fd])
            if rest is None:
                connections.pop(fd).close()  # which takes it off the list, too
                continue
            if bool(rest) != bool(unsent[fd]):
                epoll.modify(fd, select.EPOLLOUT if rest else select.EPOLLIN)
            unsent[fd] = rest


if __name__ == "__main__":
    main()
