"""Non-blocking polling: ask every connection again and again whether there is something to do.

No call ever waits: an operation that cannot be done now fails with EAGAIN (`BlockingIOError`), and
the program continues with the next connection. One thread serves all, and no client stalls others.

It costs a system call per connection and round, and nearly all of them answer "not yet". A core is
busy as long as the program runs, most of all when nothing happens. A message waits for its
connection's turn: half a round on average, which grows with the number of connections.

It breaks gradually: rounds become so long that the answers come too late. `select` was invented
to ask the kernel once about all connections, and to sleep meanwhile.
"""

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
    """Poll the listener and every connection, without end."""
    listener = listen()
    listener.setblocking(False)
    unsent: dict[socket.socket, bytes] = {}  # of each connection
    while True:
        unsent.update((connection, b"") for connection in accept_waiting(listener))
        for connection in list(unsent):
            rest = step(connection, unsent[connection])
            if rest is None:
                del unsent[connection]
                connection.close()
            else:
                unsent[connection] = rest


if __name__ == "__main__":
    main()
