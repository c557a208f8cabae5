"""gevent with monkey-patching: blocking-style code, and no call of it really blocks.

`patch_all` replaces the standard library's blocking calls by gevent's own, which look alike but
switch to gevent's hub where they would wait. So `socket` is not what it is in the other programs,
and a greenlet for each client takes the place of a thread; nothing else differs.

It costs what greenlets cost: a few kilobytes for each connection, and a switch without the
kernel. It changes the behaviour of every module in the process, those of others included.

It breaks at the limit of open files, with a patch that comes too late, and with whatever waits
outside the standard library (a driver in C): that stops everybody. gevent_unpatched.py is the
same program without that line.
"""

from _common import has_room, listen, unavailable


try:
    import gevent
    import gevent.monkey
except ImportError:
    unavailable("needs gevent: pip install 'evserve[lab]'")

gevent.monkey.patch_all()

import contextlib
import socket


def serve(connection: socket.socket) -> None:
    """Answer in capitals until the client has sent its last byte."""
    with connection, contextlib.suppress(OSError):
        while data := connection.recv(65536):
            connection.sendall(data.upper())


def main() -> None:
    """Accept, and spawn a greenlet for whoever has come."""
    listener = listen()
    while True:
        connection, _ = listener.accept()
        if not has_room(connection.fileno()):
            connection.close()
            continue
        gevent.spawn(serve, connection)
        gevent.sleep(0)  # let it begin now


if __name__ == "__main__":
    main()
