"""An event loop by hand: non-blocking sockets, `select`, and callbacks.

The idea of Twisted in sixty lines, and what is missing: no TLS, no keep-alive, no time-outs, no
redirects, a name lookup blocks everything, and `select` ends at descriptor 1024.

python select_loop.py URL...
"""

import errno
import select
import socket
import sys
import time
from collections.abc import Callable
from urllib.parse import urlsplit


Callback = Callable[[str, bytes], None]


class Download:
    """One page: what must still be sent, and what has arrived."""

    def __init__(self, url: str, callback: Callback) -> None:
        parts = urlsplit(url)
        self.url = url
        self.callback = callback
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self.unsent = f"GET {path} HTTP/1.0\r\nHost: {parts.netloc}\r\n\r\n".encode()
        self.received = b""
        self.socket = socket.socket()
        self.socket.setblocking(False)
        if self.socket.connect_ex((parts.hostname or "", parts.port or 80)) != errno.EINPROGRESS:
            raise OSError(f"cannot connect to {parts.netloc}")

    def fileno(self) -> int:
        """Return the descriptor for `select`."""
        return self.socket.fileno()

    def write(self) -> None:
        """Send what the socket accepts."""
        self.unsent = self.unsent[self.socket.send(self.unsent) :]

    def read(self) -> bool:
        """Receive what has arrived; return whether that was the end."""
        data = self.socket.recv(65536)
        self.received += data
        return not data


class Crawler:
    """`add(url, callback)` for each URL, then `run()`."""

    def __init__(self) -> None:
        self.downloads: set[Download] = set()

    def add(self, url: str, callback: Callback) -> None:
        """Call `callback(url, response)` when the page has arrived."""
        self.downloads.add(Download(url, callback))

    def run(self) -> None:
        """Wait for events and handle them, until all pages have arrived."""
        while self.downloads:
            sending = [download for download in self.downloads if download.unsent]
            readable, writable, _ = select.select(self.downloads, sending, [])
            for download in writable:
                download.write()
            for download in readable:
                if download.read():
                    self.downloads.remove(download)
                    download.socket.close()
                    download.callback(download.url, download.received)


def show(url: str, response: bytes) -> None:
    """Print what has arrived."""
    head, _, body = response.partition(b"\r\n\r\n")
    status = head.split(None, 2)[1].decode()
    print(f"{url} {len(body)} bytes received, status {status}")


began = time.perf_counter()
crawler = Crawler()
for address in sys.argv[1:]:
    crawler.add(address, show)
crawler.run()
print(f"select loop: {time.perf_counter() - began:.2f} s")
