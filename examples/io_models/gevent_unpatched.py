"""gevent without monkey-patching: greenlets around calls that really block.

gevent_patched.py without its `patch_all`, kept to show what that does. `recv` is the kernel's own
here: it puts the whole thread to sleep, with gevent's hub and all other greenlets. A greenlet
gives way only where it calls gevent itself, or ends, as `serve` does after its client has closed.

It costs what the blocking server costs, and it serves as that does: one client at a time.

It breaks with the second client, and does not say so: the code looks as if it served many.
"""

import sys


try:
    import gevent
except ImportError:
    print("gevent_unpatched: needs gevent: pip install 'evserve[lab]'", file=sys.stderr)
    sys.exit(3)

import contextlib
import functools
import resource
import signal
import socket


LIMIT = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # open files that we may have


def listen() -> socket.socket:
    """Listen on the port that the command line names, 9000 if it names none."""
    try:
        port = int(sys.argv[1]) if sys.argv[1:] else 9000
        listener = socket.create_server(("127.0.0.1", port), backlog=socket.SOMAXCONN)
    except (OSError, OverflowError, ValueError) as error:
        sys.exit(f"gevent_unpatched: {error}")
    print(f"gevent_unpatched: listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
    return listener


@functools.cache  # once for each reason
def complain(reason: str) -> None:
    """Say where this model breaks, and go on serving whom it can."""
    print(f"gevent_unpatched: {reason}", file=sys.stderr)


def serve(connection: socket.socket) -> None:
    """Answer in capitals until the client has sent its last byte."""
    with connection, contextlib.suppress(OSError):
        while data := connection.recv(65536):
            connection.sendall(data.upper())


def main() -> None:
    """Accept, and spawn a greenlet for whoever has come."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a traceback
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
    listener = listen()
    while True:
        connection, _ = listener.accept()
        if connection.fileno() == LIMIT - 1:  # the last one stays free, or `accept` would fail
            complain(f"out of descriptors: `ulimit -Hn` allows {LIMIT}")
            connection.close()
            continue
        gevent.spawn(serve, connection)
        gevent.sleep(0)  # let it begin now


if __name__ == "__main__":
    main()
