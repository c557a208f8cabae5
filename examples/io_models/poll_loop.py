"""poll: register descriptors, sleep until one is ready, and have the kernel look through all.

What select does without its limit: the kernel gets a list of descriptors with the events wanted,
not bit sets. A connection is watched for reading, or for writing while it has an unsent answer.

It costs as select does: the whole list is copied into the kernel and searched there at every
call, and searched again by the caller, however few of the connections have something to say.

It breaks nowhere but at the limit of open files; with thousands of connections it is only slow.
epoll, which keeps the list in the kernel, is the answer to that.
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
