"""A server with a different fault on each path, and what a client must make of each.

`CASES` maps a path to what is served and to what is right: a body, or the name of an error.
"""

import gzip
import zlib
from collections.abc import Iterator

import brotli
import zstandard
from attrs import define, frozen
from twisted.internet.interfaces import IPullProducer
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer


OK = b"HTTP/1.1 200 OK\r\n"
MIB = 1024 * 1024


def sized(body, *lines, status=b"200 OK"):
    head = b"".join(line + b"\r\n" for line in lines)
    length = b"Content-Length: %d\r\n\r\n" % len(body)
    return b"HTTP/1.1 " + status + b"\r\n" + head + length + body


def coded(coding, body):
    return sized(body, b"Content-Encoding: " + coding)


def redirect(location, status=b"302 Found", body=b"moved"):
    return sized(body, b"Location: " + location, status=status)


@frozen
class Case:
    """Bytes sent at once, then `more` without end, each `every` seconds, or the end."""

    sent: bytes
    right: bytes | str
    more: bytes = b""
    every: float = 0.0  # 0: as fast as they are taken
    end: str = ""  # "", "close" or "reset"


def _endings() -> Iterator[tuple[str, Case]]:
    whole = OK + b"Content-Length: 10\r\n\r\n01234"
    for end in ("close", "reset"):
        for stage, (length, error) in {
            "at-once": (0, "ConnectionLost"),
            "in-status": (9, "ConnectionLost"),
            "in-header": (30, "ConnectionLost"),
            "before-body": (len(whole) - 5, "TruncatedBody"),
            "in-body": (len(whole), "TruncatedBody"),
        }.items():
            yield f"{end}-{stage}", Case(whole[:length], error, end=end)
        chunked = OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
        yield f"{end}-in-chunks", Case(chunked, "TruncatedBody", end=end)


PLAIN = b"hello, hostile world"
PACKED = gzip.compress(PLAIN)
BOMB = gzip.compress(bytes(MIB), 9)
CASES = {
    # Compression.
    "gzip": Case(coded(b"GZIP", PACKED), PLAIN),
    "gzip-members": Case(coded(b"gzip", PACKED + PACKED), PLAIN * 2),
    "gzip-corrupt": Case(coded(b"gzip", PACKED[:12] + b"\xff\xff" + PACKED[14:]), "CorruptBody"),
    "gzip-checksum": Case(coded(b"gzip", PACKED[:-8] + bytes(8)), "CorruptBody"),
    "gzip-cut": Case(coded(b"gzip", PACKED[:-4]), "CorruptBody"),
    "gzip-not": Case(coded(b"gzip", PLAIN), "CorruptBody"),
    "gzip-empty": Case(coded(b"gzip", b""), b""),
    "deflate": Case(coded(b"deflate", zlib.compress(PLAIN)), PLAIN),
    "deflate-raw": Case(coded(b"Deflate", zlib.compress(PLAIN)[2:-4]), PLAIN),
    "br": Case(coded(b"br", brotli.compress(PLAIN)), PLAIN),
    "zstd": Case(coded(b"zstd", zstandard.compress(PLAIN)), PLAIN),
    "unknown-coding": Case(coded(b"x-mystery", PLAIN), "UnsupportedEncoding"),
    "bomb-members": Case(coded(b"gzip", BOMB * 600), "DecompressionBomb"),
    "bomb-gzip": Case(coded(b"gzip", gzip.compress(bytes(300 * MIB), 1)), "DecompressionBomb"),
    "bomb-br": Case(
        coded(b"br", brotli.compress(bytes(300 * MIB), quality=1)), "DecompressionBomb"
    ),
    "bomb-zstd": Case(coded(b"zstd", zstandard.compress(bytes(300 * MIB))), "DecompressionBomb"),
    "bomb-nested": Case(
        coded(b"gzip, gzip", gzip.compress(gzip.compress(bytes(100 * MIB)))), "DecompressionBomb"
    ),
    # Headers.
    "long-line": Case(sized(PLAIN, b"X-Long: " + b"x" * 20_000), PLAIN),
    "endless-line": Case(OK + b"X: ", "HeadersTooLarge", more=b"x" * 60_000),
    "endless-lines": Case(OK, "HeadersTooLarge", more=b"X-Some: header\r\n" * 4000),
    "endless-interim": Case(b"", "HeadersTooLarge", more=b"HTTP/1.1 102 Wait\r\n\r\n" * 1000),
    "endless-trailers": Case(
        OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", "HeadersTooLarge", more=b"X: y\r\n" * 9000
    ),
    "endless-chunk-extension": Case(
        OK + b"Transfer-Encoding: chunked\r\n\r\n5;", "HeadersTooLarge", more=b"x" * 60_000
    ),
    "noise": Case(b"220 smtp.example.com ESMTP\r\n", "BadResponse"),
    "both-framings": Case(
        OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b""
    ),
    "two-lengths": Case(
        OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "BadResponse"
    ),
    "length-twice": Case(OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    "negative-length": Case(OK + b"Content-Length: -5\r\n\r\nhello", "BadResponse"),
    # Bodies.
    "shorter": Case(OK + b"Content-Length: 30\r\n\r\nhello", "TruncatedBody", end="close"),
    "longer": Case(sized(PLAIN) + b"and more than was declared", PLAIN),
    "no-length": Case(OK + b"\r\n" + PLAIN, PLAIN, end="close"),
    "no-length-reset": Case(OK + b"\r\n" + PLAIN, "TruncatedBody", end="reset"),
    "close-in-capitals": Case(sized(PLAIN, b"CONNECTION: CLOSE"), PLAIN),
    "interim": Case(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + sized(PLAIN), PLAIN),
    "trailers": Case(
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n", b"hello"
    ),
    "204": Case(b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "endless-body": Case(OK + b"\r\n", "BodyTooLarge", more=bytes(60_000)),
    "too-large": Case(OK + b"Content-Length: 99999999999\r\n\r\n", "BodyTooLarge"),
    # Time.
    "never": Case(b"", "IdleTimeout"),
    "never-the-body": Case(OK + b"Content-Length: 5\r\n\r\n", "IdleTimeout"),
    "dripped-header": Case(OK + b"X: ", "TotalTimeout", more=b"x", every=0.05),
    "dripped-body": Case(OK + b"Content-Length: 9999\r\n\r\n", "TotalTimeout", b"x", every=0.05),
    # Redirects.
    "to-space": Case(redirect(b"/a b"), PLAIN),
    "to-utf8": Case(redirect("/ä".encode()), PLAIN),
    "to-latin1": Case(redirect(b"/\xe4?\xf6"), PLAIN),
    "to-backslash": Case(redirect(b"\\gzip"), PLAIN),
    "to-nowhere": Case(sized(PLAIN, status=b"302 Found"), PLAIN),
    "to-ftp": Case(redirect(b"ftp://example.com/"), "BadRedirect"),
    "to-javascript": Case(redirect(b"javascript:alert(1)"), "BadRedirect"),
    "to-bad-port": Case(redirect(b"http://127.0.0.1:99999/"), "BadRedirect"),
    "to-itself": Case(redirect(b"/to-itself"), "TooManyRedirects"),
    "loop-a": Case(redirect(b"/loop-b"), "TooManyRedirects"),
    "loop-b": Case(redirect(b"/loop-a"), "TooManyRedirects"),
    "endless-redirect": Case(
        OK.replace(b"200 OK", b"301 Gone") + b"Location: /gzip\r\n\r\n", PLAIN, more=bytes(60_000)
    ),
    "silent-redirect": Case(b"HTTP/1.1 301 Moved\r\nLocation: /gzip\r\n\r\n", PLAIN),
    "silent-short-redirect": Case(
        b"HTTP/1.1 301 Moved\r\nLocation: /gzip\r\nContent-Length: 5\r\n\r\n", PLAIN
    ),
    "cut-redirect": Case(
        OK.replace(b"200 OK", b"301 Gone") + b"Location: /gzip\r\nContent-Length: 9\r\n\r\n",
        PLAIN,
        end="close",
    ),
    **dict(_endings()),
}
DRIPPED = {name for name, case in CASES.items() if case.every}
SILENT = {"never", "never-the-body"}
TARGETS = {"a%20b", "%C3%A4", "%E4?%F6"}  # where redirects with odd characters must arrive


@implementer(IPullProducer)
@define(eq=False)
class Endless:
    """Writes the same without end, as fast as the client reads."""

    transport: object
    data: bytes

    def resumeProducing(self):
        self.transport.write(self.data)

    def stopProducing(self):
        pass


class HostileServer(Protocol):
    def connectionMade(self):
        self._request = b""
        self._timer = None
        self.transport.setTcpNoDelay(True)

    def dataReceived(self, data):
        self._request += data
        while b"\r\n\r\n" in self._request:
            head, _, self._request = self._request.partition(b"\r\n\r\n")
            self._serve(head.split()[1].decode().lstrip("/"))

    def _serve(self, path):
        case = Case(sized(PLAIN), PLAIN) if path in TARGETS else CASES[path]
        self.transport.write(case.sent)
        if case.every:
            self._drip(case)
        elif case.more:
            self.transport.registerProducer(Endless(self.transport, case.more), False)
        elif case.end == "close":
            self.transport.loseConnection()
        elif case.end == "reset":
            self._timer = self.factory.reactor.callLater(0.05, self.transport.abortConnection)

    def _drip(self, case):
        self.transport.write(case.more)
        self._timer = self.factory.reactor.callLater(case.every, self._drip, case)

    def connectionLost(self, reason=None):
        if self._timer is not None and self._timer.active():
            self._timer.cancel()


def hostile_factory(reactor):
    factory = Factory.forProtocol(HostileServer)
    factory.reactor = reactor
    factory.noisy = False
    return factory
