"""gevent without monkey-patching: greenlets around calls that really block.

This is gevent_patched.py without `patch_all`, to show what that does. `recv` is the kernel's own
here: it puts the whole thread to sleep, including gevent's hub and all other greenlets. A greenlet
gives way only when it calls gevent itself or ends, as `serve` does after its client has closed.

It costs what the blocking server costs, and like that it serves one client at a time.

It breaks with the second client, without any message: the code looks as if it served many.
"""

try:
    import gevent
except ImportError:
    from _common import unavailable

    unavailable("needs gevent: pip install 'evserve[lab]'")

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
