"""Non-blocking polling: ask every connection again and again whether there is something to do.

No call ever waits: what cannot be done now fails with EAGAIN (`BlockingIOError`), and the program
goes on to the next connection. One thread serves everybody, and nobody stalls anybody.

It costs a system call for each connection and round, nearly all of which say "not yet". A core is
busy as long as the program runs, most of all when nothing happens, and a message waits until its
connection's turn comes: half a round, which grows with the number of connections.

It breaks as a matter of arithmetic: rounds become so long that the answers come too late. Asking
the kernel once about all connections, and sleeping meanwhile, is what `select` was made for.
"""

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
    """Ask the listener, ask every connection, and again."""
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
