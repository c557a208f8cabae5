"""selectors: the standard library's face for the best of epoll, kqueue, poll and select.

A socket is registered with a callback, and the loop calls whatever belongs to what is ready: an
event loop in ten lines, the core of asyncio and Twisted alike. Each connection is an object that
keeps between two calls what the blocking server keeps on its stack.

It costs what epoll costs, and some Python for each event: `selectors` makes an object of each.

It breaks at the limit of open files, and with the first callback that takes its time: all others
wait until it returns.
"""

import selectors
import socket

from _common import listen, newcomers


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
