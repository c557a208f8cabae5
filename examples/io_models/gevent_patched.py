"""gevent with monkey-patching: code in blocking style, in which no call really blocks.

`patch_all` replaces the standard library's blocking calls by gevent's own, which look the same but
switch to gevent's hub where they would wait. So `socket` differs from that of the other programs,
and each client has a greenlet instead of a thread; the rest is the same. The patch comes before
the other imports: a module that has imported a blocking call keeps it.

It costs what greenlets cost: a few kilobytes for each connection, and a switch without the kernel.
It changes the behaviour of every module in the process, including those of other people.

It breaks at the limit of open files, if the patch comes too late, and with a call that waits
outside the standard library (such as a driver in C): it stops all greenlets. gevent_unpatched.py
is the same program without that line.
"""

try:
    import gevent
    import gevent.monkey
except ImportError:
    from _common import unavailable

    unavailable("needs gevent: pip install 'evserve[lab]'")

gevent.monkey.patch_all()

import contextlib
import socket

from _common import has_free_descriptor, listen


def serve(connection: socket.socket) -> None:
    """Answer in capitals until the client has sent its last byte."""
    with connection, contextlib.suppress(OSError):
        while data := connection.recv(65536):
            connection.sendall(data.upper())


def main() -> None:
    """Accept, and spawn a greenlet for each client."""
    listener = listen()
    while True:
        connection, _ = listener.accept()
        if not has_free_descriptor(connection.fileno()):
            connection.close()
            continue
        gevent.spawn(serve, connection)
        gevent.sleep(0)  # lets it begin now


if __name__ == "__main__":
    main()
