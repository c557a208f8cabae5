"""An event loop by hand: non-blocking sockets, `select`, and callbacks.

The idea of Twisted in 110 lines, and what is missing: no TLS, no keep-alive, no time-outs, no
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
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError("not an http URL")
        self.url = url
        self.callback = callback
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        host = parts.netloc.rpartition("@")[2]
        self.unsent = f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode()
        self.received = b""
        family, *_, server = socket.getaddrinfo(parts.hostname, parts.port or 80)[0]
        self.socket = socket.socket(family)
        self.socket.setblocking(False)
        if self.socket.connect_ex(server) not in (0, errno.EINPROGRESS):
            raise OSError("cannot connect")

    def fileno(self) -> int:
        """Return the descriptor for `select`."""
        return self.socket.fileno()

    def write(self) -> None:
        """Send what the socket accepts; an error if there is no connection."""
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
        try:
            self.downloads.add(Download(url, callback))
        except (OSError, ValueError) as error:
            print(f"{url} {error}")

    def run(self) -> None:
        """Wait for events and handle them, until all pages have arrived or failed."""
        while self.downloads:
            sending = [download for download in self.downloads if download.unsent]
            readable, writable, _ = select.select(self.downloads, sending, [])
            for download in {*readable, *writable}:
                try:
                    self.handle(download, download in writable)
                except OSError as error:  # of this page only
                    self.end(download)
                    print(f"{download.url} {error}")

    def handle(self, download: Download, is_writable: bool) -> None:
        """Send or receive."""
        if is_writable:
            download.write()
        elif download.read():
            self.end(download)
            download.callback(download.url, download.received)

    def end(self, download: Download) -> None:
        """Forget a download."""
        self.downloads.remove(download)
        download.socket.close()


def show(url: str, response: bytes) -> None:
    """Print what has arrived."""
    head, _, body = response.partition(b"\r\n\r\n")
    words = head.decode("latin-1").split(None, 2)
    status = words[1] if words[1:] else "missing"
    print(f"{url} {len(body)} bytes received, status {status}")


began = time.perf_counter()
crawler = Crawler()
for address in sys.argv[1:]:
    crawler.add(address, show)
crawler.run()
print(f"select loop: {time.perf_counter() - began:.2f} s")
