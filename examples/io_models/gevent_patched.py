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

import sys


try:
    import gevent
    import gevent.monkey
except ImportError:
    print("gevent_patched: needs gevent: pip install 'evserve[lab]'", file=sys.stderr)
    sys.exit(3)

gevent.monkey.patch_all()

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
        sys.exit(f"gevent_patched: {error}")
    print(f"gevent_patched: listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
    return listener


@functools.cache  # once for each reason
def complain(reason: str) -> None:
    """Say where this model breaks, and go on serving whom it can."""
    print(f"gevent_patched: {reason}", file=sys.stderr)


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
