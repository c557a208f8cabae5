"""poll: register descriptors, sleep until one is ready, and have the kernel look through all.

It does what select does, without its limit: the kernel gets a list of descriptors with the wanted
events instead of bit sets. A connection is watched for reading, or for writing while it has an
unsent answer.

It costs as much as select: the whole list is copied into the kernel and searched there at every
call, and searched again by the caller, however few connections are ready.

It breaks only at the limit of open files; with thousands of connections it is just slow. epoll
solves that by keeping the list in the kernel.
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
    poller = select.poll()
    poller.register(listener, select.POLLIN)
    connections: dict[int, socket.socket] = {}
    unsent: dict[int, bytes] = {}  # of each connection
    while True:
        for fd, _ in poller.poll():
            if fd == listener.fileno():
                for connection in accept_waiting(listener):
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
