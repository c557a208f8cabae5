"""selectors: the standard library's interface to the best of epoll, kqueue, poll and select.

A socket is registered with a callback, and the loop calls the callbacks of ready sockets: an event
loop in ten lines, the core of both asyncio and Twisted. Each connection is an object that keeps
between two calls what the blocking server keeps on its stack.

It costs what epoll costs, and some Python for each event: `selectors` makes an object of each.

It breaks at the limit of open files, and with the first slow callback: all other connections wait
until it returns.
"""

import selectors
import socket

from _common import accept_waiting, listen


class Connection:
    """A client and its unsent bytes."""

    def __init__(self, selector: selectors.BaseSelector, stream: socket.socket) -> None:
        self.selector, self.stream, self.unsent = selector, stream, b""
        selector.register(stream, selectors.EVENT_READ, self.on_readable)

    def on_readable(self) -> None:
        """Read a piece and answer it."""
        try:
            self.unsent = self.stream.recv(65536).upper()
        except BlockingIOError:
            return
        except OSError:  # the connection was reset
            self.unsent = b""
        if self.unsent:
            self.on_writable()
        else:
            self.close()

    def on_writable(self) -> None:
        """Send what the kernel accepts; read again only when everything has been sent."""
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
    """Sleep until something is ready, call its callback, and sleep again."""
    listener = listen()
    listener.setblocking(False)
    selector = selectors.DefaultSelector()

    def on_clients() -> None:
        for stream in accept_waiting(listener):
            Connection(selector, stream)

    selector.register(listener, selectors.EVENT_READ, on_clients)
    while True:
        for key, _ in selector.select():
            key.data()


if __name__ == "__main__":
    main()
