"""selectors: the standard library's face for the best of epoll, kqueue, poll and select.

A socket is registered with a callback, and the loop calls whatever belongs to what is ready: an
event loop in ten lines, the core of asyncio and Twisted alike. Each connection is an object that
keeps between two calls what the blocking server keeps on its stack.

It costs what epoll costs, and some Python for each event: `selectors` makes an object of each.

It breaks at the limit of open files, and with the first callback that takes its time: all others
wait until it returns.
"""

import contextlib
import functools
import resource
import selectors
import signal
import socket
import sys
from collections.abc import Iterator


LIMIT = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # open files that we may have


def listen() -> socket.socket:
    """Listen on the port that the command line names, 9000 if it names none."""
    try:
        port = int(sys.argv[1]) if sys.argv[1:] else 9000
        listener = socket.create_server(("127.0.0.1", port), backlog=socket.SOMAXCONN)
    except (OSError, OverflowError, ValueError) as error:
        sys.exit(f"selectors_loop: {error}")
    print(f"selectors_loop: listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
    return listener


@functools.cache  # once for each reason
def complain(reason: str) -> None:
    """Say where this model breaks, and go on serving whom it can."""
    print(f"selectors_loop: {reason}", file=sys.stderr)


def newcomers(listener: socket.socket) -> Iterator[socket.socket]:
    """Accept everybody who waits; turn away who would take the last descriptor."""
    with contextlib.suppress(BlockingIOError):
        while True:
            connection, _ = listener.accept()
            if connection.fileno() < LIMIT - 1:
                connection.setblocking(False)
                yield connection
            else:
                complain(f"out of descriptors: `ulimit -Hn` allows {LIMIT}")
                connection.close()


class Connection:
    """A client, and what is still to be sent to it."""

    def __init__(self, selector: selectors.BaseSelector, stream: socket.socket) -> None:
        self.selector, self.stream, self.unsent = selector, stream, b""
        selector.register(stream, selectors.EVENT_READ, self.on_readable)

    def on_readable(self) -> None:
        """Read a piece and answer it."""
        try:
            self.unsent = self.stream.recv(65536).upper()
        except BlockingIOError:
            return
        except OSError:  # the client has vanished
            self.unsent = b""
        if self.unsent:
            self.on_writable()
        else:
            self.close()

    def on_writable(self) -> None:
        """Send what the kernel takes; read again only when it has taken all."""
        try:
            self.unsent = self.unsent[self.stream.send(self.unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if self.unsent:
            self.selector.modify(self.stream, selectors.EVENT_WRITE, self.on_writable)
        else:
            self.selector.modify(self.stream, selectors.EVENT_READ, self.on_readable)

    def close(self) -> None:
        """Forget this client."""
        self.selector.unregister(self.stream)
        self.stream.close()


def main() -> None:
    """Sleep until something is ready, call what was registered for it, and sleep again."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a traceback
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
    listener = listen()
    listener.setblocking(False)
    selector = selectors.DefaultSelector()

    def on_newcomers() -> None:
        for stream in newcomers(listener):
            Connection(selector, stream)

    selector.register(listener, selectors.EVENT_READ, on_newcomers)
    while True:
        for key, _ in selector.select():
            key.data()


if __name__ == "__main__":
    main()
