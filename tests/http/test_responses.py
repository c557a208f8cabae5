"""What becomes of a response, byte for byte: a table of what servers send.

The right column comes from RFC 9110 and 9112, and from what curl 7.88, wget 1.21, Chromium and
aiohttp made of the same bytes: what they agree on is accepted. Each row goes through the whole
client, at once and byte by byte.
"""

import gzip
import zlib

import brotli
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evserve.http.auth import Auth
from evserve.http.cookies import Cookies
from evserve.http.errors import FetchError
from tests.http.cut_bytes import cut
from tests.http.memory_network import HOST, Network
from tests.http.recording_receiver import fetch


# What happens to the connection.
KEPT = "kept"  # it carries the next request
SHUT = "shut"  # the response is complete, but the client closes
TILL = "till"  # the response is complete when the server closes
GONE = "gone"  # there is no response, only an error

OK = b"HTTP/1.1 200 OK\r\n"
FIVE = b"Content-Length: 5\r\n\r\nhello"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"


def length(value):
    return OK + b"Content-Length: " + value + b"\r\n\r\nhello"


def transfer(coding, body=CHUNKS, more=b""):
    return OK + more + b"Transfer-Encoding: " + coding + b"\r\n\r\n" + body


def coded(coding, body):
    return OK + b"Content-Encoding: %b\r\nContent-Length: %d\r\n\r\n" % (coding, len(body)) + body


# name: bytes, status, body or name of the error, the connection

STATUS_LINES = {
    "usual": (OK + FIVE, 200, b"hello", KEPT),
    "no reason": (b"HTTP/1.1 200\r\n" + FIVE, 200, b"hello", KEPT),
    "blank without a reason": (b"HTTP/1.1 200 \r\n" + FIVE, 200, b"hello", KEPT),
    "reason in Latin-1": (b"HTTP/1.1 200 caf\xe9\r\n" + FIVE, 200, b"hello", KEPT),
    "reason with a control character": (b"HTTP/1.1 200 O\x01K\r\n" + FIVE, 200, b"hello", KEPT),
    "status without a name": (b"HTTP/1.1 299 Fine\r\n" + FIVE, 299, b"hello", KEPT),
    "status 600": (b"HTTP/1.1 600 Odd\r\n" + FIVE, 600, b"hello", KEPT),
    "status 999": (b"HTTP/1.1 999 Denied\r\n" + FIVE, 999, b"hello", KEPT),
    "version 1.0": (b"HTTP/1.0 200 OK\r\n" + FIVE, 200, b"hello", SHUT),
    "version 1.2": (b"HTTP/1.2 200 OK\r\n" + FIVE, 200, b"hello", SHUT),
    "version 2.0": (b"HTTP/2.0 200 OK\r\n" + FIVE, 200, b"hello", SHUT),
    "version 2": (b"HTTP/2 200 OK\r\n" + FIVE, 200, b"hello", SHUT),
    "version 0.9": (b"HTTP/0.9 200 OK\r\n" + FIVE, None, "BadResponse", GONE),
    "version 1.10": (b"HTTP/1.10 200 OK\r\n" + FIVE, None, "BadResponse", GONE),
    "no version": (b"HTTP 200 OK\r\n" + FIVE, None, "BadResponse", GONE),
    "lower case": (b"http/1.1 200 ok\r\n" + FIVE, 200, b"hello", SHUT),
    "two blanks": (b"HTTP/1.1  200  OK\r\n" + FIVE, 200, b"hello", SHUT),
    "tabs": (b"HTTP/1.1\t200\tOK\r\n" + FIVE, 200, b"hello", SHUT),
    "no blank before the reason": (b"HTTP/1.1 200OK\r\n" + FIVE, 200, b"hello", SHUT),
    "empty line before": (b"\r\n" + OK + FIVE, 200, b"hello", KEPT),
    "empty lines before": (b"\r\n\n\r\n" + OK + FIVE, 200, b"hello", KEPT),
    "empty line before an odd one": (b"\r\nHTTP/1.1  200 OK\r\n" + FIVE, 200, b"hello", SHUT),
    "blank before": (b" " + OK + FIVE, None, "BadResponse", GONE),
    "garbage before": (b"xx" + OK + FIVE, None, "BadResponse", GONE),
    "no status": (b"HTTP/1.1\r\n" + FIVE, None, "BadResponse", GONE),
    "a word for the status": (b"HTTP/1.1 OK\r\n" + FIVE, None, "BadResponse", GONE),
    "two digits": (b"HTTP/1.1 20 OK\r\n" + FIVE, None, "BadResponse", GONE),
    "four digits": (b"HTTP/1.1 2000 OK\r\n" + FIVE, None, "BadResponse", GONE),
    "status 000": (b"HTTP/1.1 000 OK\r\n" + FIVE, None, "BadResponse", GONE),
    "status 099": (b"HTTP/1.1 099 OK\r\n" + FIVE, None, "BadResponse", GONE),
    "negative status": (b"HTTP/1.1 -200 OK\r\n" + FIVE, None, "BadResponse", GONE),
    "SHOUTcast": (b"ICY 200 OK\r\n" + FIVE, None, "BadResponse", GONE),
    "HTTP/0.9": (b"<html>hello", None, "BadResponse", GONE),
    "SSH": (b"SSH-2.0-OpenSSH_9.6\r\n", None, "BadResponse", GONE),
    "TLS": (b"\x15\x03\x01\x00\x02\x02\x50", None, "BadResponse", GONE),
    "nothing": (b"", None, "ConnectionLost", GONE),
    "half a head": (OK + b"X-A: 1\r\n", None, "ConnectionLost", GONE),
}

STATUSES = {
    "100": (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + FIVE, 200, b"hello", KEPT),
    "103": (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK + FIVE, 200, b"hello", KEPT),
    "several": (b"HTTP/1.1 102 Wait\r\n\r\n" * 3 + OK + FIVE, 200, b"hello", KEPT),
    "199": (b"HTTP/1.1 199 Odd\r\n\r\n" + OK + FIVE, 200, b"hello", KEPT),
    "100 before an odd head": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1  200 OK\r\n" + FIVE,
        200,
        b"hello",
        SHUT,
    ),
    "an odd 100": (b"HTTP/1.1  100 Continue\r\n\r\n" + OK + FIVE, 200, b"hello", SHUT),
    "only 100": (b"HTTP/1.1 100 Continue\r\n\r\n", None, "ConnectionLost", GONE),
    "101": (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", None, "BadResponse", GONE),
    "101 to nothing": (b"HTTP/1.1 101 Switching\r\n\r\n" + OK + FIVE, None, "BadResponse", GONE),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", KEPT),
    "204 with a body": (b"HTTP/1.1 204 No Content\r\n" + FIVE, 204, b"", SHUT),
    "204 in chunks": (
        b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
        204,
        b"",
        KEPT,
    ),
    "205 with a body": (b"HTTP/1.1 205 Reset\r\n" + FIVE, 205, b"hello", KEPT),
    "304 with a length": (b"HTTP/1.1 304 Same\r\nContent-Length: 5\r\n\r\n", 304, b"", KEPT),
    "304 with a body": (b"HTTP/1.1 304 Same\r\n" + FIVE, 304, b"", SHUT),
}

HEAD_REQUESTS = {
    "length": (OK + b"Content-Length: 5\r\n\r\n", 200, b"", KEPT),
    "large length": (OK + b"Content-Length: 9999999\r\n\r\n", 200, b"", KEPT),
    "lengths that differ": (
        OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
        200,
        b"",
        SHUT,
    ),
    "no length": (OK + b"\r\n", 200, b"", SHUT),
    "chunked": (OK + b"Transfer-Encoding: chunked\r\n\r\n", 200, b"", SHUT),
    "unknown transfer coding": (OK + b"Transfer-Encoding: gzip\r\n\r\n", 200, b"", SHUT),
    "unknown content coding": (
        OK + b"Content-Encoding: foo\r\nContent-Length: 5\r\n\r\n",
        200,
        b"",
        KEPT,
    ),
    "a body": (OK + FIVE, 200, b"", SHUT),
    "a body in chunks": (CHUNKED + CHUNKS, 200, b"", SHUT),
    "no chunks": (CHUNKED + b"0\r\n\r\n", 200, b"", SHUT),
    "a body without a length": (OK + b"\r\nhello", 200, b"", SHUT),
    "another response": (OK + b"Content-Length: 0\r\n\r\n" + OK + FIVE, 200, b"", SHUT),
}

HEADER_LINES = {
    "obsolete text": (OK + b"X: caf\xe9\r\n" + FIVE, 200, b"hello", KEPT),
    "empty value": (OK + b"X:\r\n" + FIVE, 200, b"hello", KEPT),
    "long": (OK + b"X: " + b"x" * 100_000 + b"\r\n" + FIVE, 200, b"hello", KEPT),
    "too long": (OK + b"X: " + b"x" * 300_000 + b"\r\n" + FIVE, None, "HeadersTooLarge", GONE),
    "too long, odd": (
        OK + b"X : " + b"x" * 300_000 + b"\r\n" + FIVE,
        None,
        "HeadersTooLarge",
        GONE,
    ),
    "many": (OK + b"X: x\r\n" * 999 + FIVE, 200, b"hello", KEPT),
    "too many": (OK + b"X: x\r\n" * 1000 + FIVE, None, "HeadersTooLarge", GONE),
    "too many, odd": (OK + b"X : x\r\n" * 1000 + FIVE, None, "HeadersTooLarge", GONE),
    "folded": (OK + b"X: one\r\n two\r\n" + FIVE, 200, b"hello", SHUT),
    "folded first": (OK + b" X: one\r\n" + FIVE, 200, b"hello", SHUT),
    "folded length": (OK + b"Content-Length:\r\n 5\r\n\r\nhello", 200, b"hello", SHUT),
    "blank before the colon": (OK + b"Content-Length : 5\r\n\r\nhello", 200, b"hello", SHUT),
    "no colon": (OK + b"nonsense\r\n" + FIVE, 200, b"hello", SHUT),
    "no name": (OK + b": x\r\n" + FIVE, 200, b"hello", SHUT),
    "blank in the name": (OK + b"X Y: x\r\n" + FIVE, 200, b"hello", SHUT),
    "obsolete text in the name": (OK + b"X\xe9: x\r\n" + FIVE, 200, b"hello", SHUT),
    "control characters": (OK + b"X: a\x01\x1b\x7fb\r\n" + FIVE, 200, b"hello", SHUT),
    "NUL in a value": (OK + b"X: a\0b\r\n" + FIVE, None, "BadResponse", GONE),
    "NUL in a name": (OK + b"X\0: b\r\n" + FIVE, None, "BadResponse", GONE),
    "carriage return in a value": (OK + b"X: a\rb\r\n" + FIVE, 200, b"hello", SHUT),
    "two carriage returns": (OK + b"X: a\r\r\n" + FIVE, 200, b"hello", SHUT),
    "line feeds alone": (
        b"HTTP/1.1 200 OK\nX: a\nContent-Length: 5\n\nhello",
        200,
        b"hello",
        KEPT,
    ),
    "some line feeds alone": (OK + b"X: a\nContent-Length: 5\r\n\nhello", 200, b"hello", KEPT),
    "carriage returns alone": (
        b"HTTP/1.1 200 OK\rContent-Length: 5\r\rhello",
        None,
        "ConnectionLost",
        GONE,
    ),
}

LENGTHS = {
    "none": (OK + b"\r\nhello", 200, b"hello", TILL),
    "blanks around": (length(b"\t 5 \t"), 200, b"hello", KEPT),
    "zeros": (length(b"0" * 30 + b"5"), 200, b"hello", KEPT),
    "more than came": (length(b"9"), 200, "TruncatedBody", GONE),
    "less than came": (length(b"3"), 200, b"hel", SHUT),
    "zero, and a body": (length(b"0"), 200, b"", SHUT),
    "twice": (OK + b"Content-Length: 5\r\n" + FIVE, 200, b"hello", SHUT),
    "twice in a line": (length(b"5, 5"), 200, b"hello", SHUT),
    "twice, with zeros": (OK + b"Content-Length: 05\r\n" + FIVE, 200, b"hello", SHUT),
    "comma": (length(b"5,"), 200, b"hello", SHUT),
    "two numbers": (OK + b"Content-Length: 4\r\n" + FIVE, 200, "BadResponse", GONE),
    "two numbers in a line": (length(b"5, 4"), 200, "BadResponse", GONE),
    "empty": (length(b""), 200, "BadResponse", GONE),
    "plus": (length(b"+5"), 200, "BadResponse", GONE),
    "minus": (length(b"-5"), 200, "BadResponse", GONE),
    "unit": (length(b"5 bytes"), 200, "BadResponse", GONE),
    "fraction": (length(b"5.0"), 200, "BadResponse", GONE),
    "hexadecimal": (length(b"0x5"), 200, "BadResponse", GONE),
    "quoted": (length(b'"5"'), 200, "BadResponse", GONE),
    "word": (length(b"five"), 200, "BadResponse", GONE),
    "larger than any file": (length(b"9" * 25), 200, "BadResponse", GONE),
    "5,000 digits": (length(b"9" * 5000), 200, "BadResponse", GONE),
}

TRANSFER_CODINGS = {
    "chunked": (transfer(b"chunked"), 200, b"hello", KEPT),
    "capitals": (transfer(b"CHUNKED"), 200, b"hello", KEPT),
    "blank behind": (transfer(b"chunked "), 200, b"hello", KEPT),
    "twice": (transfer(b"chunked, chunked"), 200, b"hello", SHUT),
    "twice in two lines": (
        transfer(b"chunked", more=b"Transfer-Encoding: chunked\r\n"),
        200,
        b"hello",
        SHUT,
    ),
    "comma before": (transfer(b", chunked"), 200, b"hello", SHUT),
    "comma behind": (transfer(b"chunked,"), 200, b"hello", SHUT),
    "identity": (transfer(b"identity", b"hello"), 200, b"hello", TILL),
    "identity with a length": (transfer(b"identity", FIVE[21:], FIVE[:19]), 200, b"hello", SHUT),
    "identity and chunked": (transfer(b"identity, chunked"), 200, b"hello", SHUT),
    "chunked and identity": (transfer(b"chunked, identity"), 200, b"hello", SHUT),
    "empty, with a length": (transfer(b"", FIVE[21:], FIVE[:19]), 200, b"hello", SHUT),
    "with a length before": (transfer(b"chunked", more=FIVE[:19]), 200, b"hello", SHUT),
    "with a length behind": (
        OK + b"Transfer-Encoding: chunked\r\nContent-Length: 99\r\n\r\n" + CHUNKS,
        200,
        b"hello",
        SHUT,
    ),
    "with a length that is none": (
        transfer(b"chunked", more=b"Content-Length: x\r\n"),
        200,
        b"hello",
        SHUT,
    ),
    "in HTTP/1.0": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
        + CHUNKS,
        200,
        b"hello",
        SHUT,
    ),
    "gzip and chunked": (transfer(b"gzip, chunked"), 200, "BadResponse", GONE),
    "gzip": (transfer(b"gzip"), 200, "BadResponse", GONE),
    "parameter": (transfer(b"chunked;q=1"), 200, "BadResponse", GONE),
    "another word": (transfer(b"xchunked"), 200, "BadResponse", GONE),
    "two words": (transfer(b"chunked foo"), 200, "BadResponse", GONE),
    "quoted": (transfer(b'"chunked"'), 200, "BadResponse", GONE),
}

CHUNK_LINES = {
    "extension": (CHUNKED + b"5;x=y\r\nhello\r\n0;z\r\n\r\n", 200, b"hello", KEPT),
    "quoted extension": (CHUNKED + b'5;x="y;z"\r\nhello\r\n0\r\n\r\n', 200, b"hello", KEPT),
    "blanks around an extension": (
        CHUNKED + b"5 ; x = y\r\nhello\r\n0\r\n\r\n",
        200,
        b"hello",
        SHUT,
    ),
    "control character": (CHUNKED + b"5;\x01\r\nhello\r\n0\r\n\r\n", 200, b"hello", SHUT),
    "blank behind": (CHUNKED + b"5 \r\nhello\r\n0  \r\n\r\n", 200, b"hello", KEPT),
    "tab behind": (CHUNKED + b"5\t\r\nhello\r\n0\r\n\r\n", 200, b"hello", KEPT),
    "blank before": (CHUNKED + b" 5\r\nhello\r\n0\r\n\r\n", 200, "BadResponse", GONE),
    "zeros": (CHUNKED + b"0005\r\nhello\r\n000\r\n\r\n", 200, b"hello", KEPT),
    "many zeros": (CHUNKED + b"0" * 30 + b"5\r\nhello\r\n0\r\n\r\n", 200, b"hello", KEPT),
    "many zeros, odd": (CHUNKED + b"0" * 30 + b"5\nhello\r\n0\r\n\r\n", 200, b"hello", SHUT),
    "capitals": (CHUNKED + b"0A\r\nhellohello\r\n0\r\n\r\n", 200, b"hellohello", KEPT),
    "0x": (CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n", 200, "BadResponse", GONE),
    "minus": (CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n", 200, "BadResponse", GONE),
    "plus": (CHUNKED + b"+5\r\nhello\r\n0\r\n\r\n", 200, "BadResponse", GONE),
    "underscore": (CHUNKED + b"0_5\r\nhello\r\n0\r\n\r\n", 200, "BadResponse", GONE),
    "too many digits": (CHUNKED + b"f" * 17 + b"\r\nhello", 200, "BadResponse", GONE),
    "garbage": (CHUNKED + b"5 xyz\r\nhello\r\n0\r\n\r\n", 200, "BadResponse", GONE),
    "no number": (CHUNKED + b"zz\r\nhello\r\n0\r\n\r\n", 200, "BadResponse", GONE),
    "empty": (CHUNKED + b"\r\nhello\r\n0\r\n\r\n", 200, "BadResponse", GONE),
    "line feeds alone": (CHUNKED + b"5\nhello\n0\n\n", 200, b"hello", SHUT),
    "line feed after a size": (CHUNKED + b"5\nhello\r\n0\r\n\r\n", 200, b"hello", SHUT),
    "line feed after the last size": (CHUNKED + b"5\r\nhello\r\n0\n\r\n", 200, b"hello", SHUT),
    "line feed after a chunk": (CHUNKED + b"5\r\nhello\n0\r\n\r\n", 200, b"hello", KEPT),
    "line feed at the end": (CHUNKED + b"5\r\nhello\r\n0\r\n\n", 200, b"hello", KEPT),
    "two carriage returns": (CHUNKED + b"5\r\r\nhello\r\n0\r\n\r\n", 200, b"hello", SHUT),
    "carriage return alone": (CHUNKED + b"5\rhello\r\n0\r\n\r\n", 200, "BadResponse", GONE),
    "too long a chunk": (CHUNKED + b"5\r\nhelloX\r\n0\r\n\r\n", 200, "BadResponse", GONE),
    "no end of a chunk": (CHUNKED + b"5\r\nhello0\r\n\r\n", 200, "BadResponse", GONE),
    "two ends of a chunk": (CHUNKED + b"5\r\nhello\r\n\r\n0\r\n\r\n", 200, "BadResponse", GONE),
    "no last line": (CHUNKED + b"5\r\nhello\r\n0\r\n", 200, "TruncatedBody", GONE),
    "no last chunk": (CHUNKED + b"5\r\nhello\r\n", 200, "TruncatedBody", GONE),
    "half a chunk": (CHUNKED + b"5\r\nhel", 200, "TruncatedBody", GONE),
    "half a chunk, odd": (CHUNKED + b"5\nhel", 200, "TruncatedBody", GONE),
    "trailer": (CHUNKED + b"5\r\nhello\r\n0\r\nX: 1\r\n\r\n", 200, b"hello", KEPT),
    "half a trailer": (CHUNKED + b"5\r\nhello\r\n0\r\nX: 1\r\n", 200, "TruncatedBody", GONE),
    "folded trailer": (CHUNKED + b"5\r\nhello\r\n0\r\nX: 1\r\n 2\r\n\r\n", 200, b"hello", SHUT),
    "trailer without a colon": (CHUNKED + b"5\r\nhello\r\n0\r\nX\r\n\r\n", 200, b"hello", SHUT),
    "more behind": (CHUNKED + CHUNKS + b"more", 200, b"hello", SHUT),
}

GZIP = gzip.compress(b"hello")
ZLIB = zlib.compress(b"hello")
DEFLATE = ZLIB[2:-4]
BROTLI = brotli.compress(b"hello")
ZSTD = zstandard.compress(b"hello")

CONTENT_CODINGS = {
    "gzip": (coded(b"gzip", GZIP), 200, b"hello", KEPT),
    "blank behind": (coded(b"gzip ", GZIP), 200, b"hello", KEPT),
    "x-gzip": (coded(b"X-GZip", GZIP), 200, b"hello", KEPT),
    "gzip twice": (coded(b"gzip", GZIP + GZIP), 200, b"hellohello", KEPT),
    "gzip, then garbage": (coded(b"gzip", GZIP + b"garbage"), 200, b"hello", KEPT),
    "gzip, then one byte": (coded(b"gzip", GZIP + b"\x1f"), 200, b"hello", KEPT),
    "gzip, garbage, gzip": (coded(b"gzip", GZIP + b"x" + GZIP), 200, b"hello", KEPT),
    "gzip, then zeros": (coded(b"gzip", GZIP + bytes(9)), 200, b"hello", KEPT),
    "gzip, then half of one": (coded(b"gzip", GZIP + GZIP[:9]), 200, "CorruptBody", GONE),
    "half of a gzip": (coded(b"gzip", GZIP[:-9]), 200, "CorruptBody", GONE),
    "gzip without its checksum": (coded(b"gzip", GZIP[:-8]), 200, "CorruptBody", GONE),
    "gzip with another checksum": (
        coded(b"gzip", GZIP[:-8] + bytes(8)),
        200,
        "CorruptBody",
        GONE,
    ),
    "no gzip": (coded(b"gzip", b"hello"), 200, "CorruptBody", GONE),
    "empty": (coded(b"gzip", b""), 200, b"", KEPT),
    "empty in chunks": (
        OK + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        200,
        b"",
        KEPT,
    ),
    "deflate": (coded(b"deflate", ZLIB), 200, b"hello", KEPT),
    "bare deflate": (coded(b"deflate", DEFLATE), 200, b"hello", KEPT),
    "deflate, then garbage": (coded(b"deflate", ZLIB + b"garbage"), 200, b"hello", KEPT),
    "bare deflate, then garbage": (coded(b"deflate", DEFLATE + b"more"), 200, b"hello", KEPT),
    "br": (coded(b"br", BROTLI), 200, b"hello", KEPT),
    "br, then garbage": (coded(b"br", BROTLI + b"garbage"), 200, "CorruptBody", GONE),
    "zstd": (coded(b"zstd", ZSTD), 200, b"hello", KEPT),
    "zstd twice": (coded(b"zstd", ZSTD + ZSTD), 200, b"hellohello", KEPT),
    "zstd, then garbage": (coded(b"zstd", ZSTD + b"garbage"), 200, "CorruptBody", GONE),
    "gzip of gzip": (coded(b"gzip, gzip", gzip.compress(GZIP)), 200, b"hello", KEPT),
    "identity and gzip": (coded(b"identity, gzip", GZIP), 200, b"hello", KEPT),
    "comma": (coded(b"gzip,", GZIP), 200, b"hello", KEPT),
    "identity": (coded(b"identity", b"hello"), 200, b"hello", KEPT),
    "nothing": (coded(b"", b"hello"), 200, b"hello", KEPT),
    "none": (coded(b"None", b"hello"), 200, b"hello", KEPT),
    "binary": (coded(b"binary", b"hello"), 200, b"hello", KEPT),
    "8bit": (coded(b"8bit", b"hello"), 200, b"hello", KEPT),
    "utf-8": (coded(b"UTF-8", b"hello"), 200, b"hello", KEPT),
    "utf8": (coded(b"utf8", b"hello"), 200, b"hello", KEPT),
    "iso-8859-1": (coded(b"iso-8859-1", b"hello"), 200, b"hello", KEPT),
    "windows-1252": (coded(b"windows-1252", b"hello"), 200, b"hello", KEPT),
    "text/html": (coded(b"text/html", b"hello"), 200, b"hello", KEPT),
    "utf-8 and gzip": (coded(b"utf-8, gzip", GZIP), 200, b"hello", KEPT),
    "compress": (coded(b"compress", b"hello"), 200, "UnsupportedEncoding", GONE),
    "base64": (coded(b"base64", b"aGVsbG8="), 200, "UnsupportedEncoding", GONE),
    "mystery": (coded(b"x-mystery", b"hello"), 200, "UnsupportedEncoding", GONE),
    "mystery of nothing": (coded(b"x-mystery", b""), 200, b"", KEPT),
    "six": (coded(b",".join([b"gzip"] * 6), b"hello"), 200, "UnsupportedEncoding", GONE),
}

CONNECTIONS = {
    "close": (OK + b"Connection: close\r\n" + FIVE, 200, b"hello", SHUT),
    "CLOSE": (OK + b"CONNECTION: CLOSE\r\n" + FIVE, 200, b"hello", SHUT),
    "close in a list": (OK + b"Connection: x, close\r\n" + FIVE, 200, b"hello", SHUT),
    "both": (OK + b"Connection: keep-alive, close\r\n" + FIVE, 200, b"hello", SHUT),
    "keep-alive": (OK + b"Connection: keep-alive\r\n" + FIVE, 200, b"hello", KEPT),
    "keep-alive in HTTP/1.0": (
        b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n" + FIVE,
        200,
        b"hello",
        KEPT,
    ),
    "Proxy-Connection": (OK + b"Proxy-Connection: close\r\n" + FIVE, 200, b"hello", SHUT),
    "upgrade offered": (
        OK + b"Connection: upgrade\r\nUpgrade: h2c\r\n" + FIVE,
        200,
        b"hello",
        KEPT,
    ),
}


def play(pieces, **options):
    """Return what becomes of a response: status, outcome, connection."""
    network = Network()
    client = network.client()
    call = fetch(client, HOST, **options)
    peer = network.accept()
    for piece in pieces:
        if not peer.is_open:
            break
        peer.answer(piece)
    if call.is_over:
        connection = KEPT if peer.is_open else SHUT
    else:
        connection = TILL
        peer.close()
    if connection == KEPT:
        after = fetch(client, HOST)
        peer.ok(b"next")
        assert (after.outcome, network.attempts) == (b"next", 1)
    if call.error is not None:
        connection = GONE
    return call.head and call.head.status, call.outcome, connection


WIRES = [
    row[0]
    for table in (
        STATUS_LINES,
        STATUSES,
        HEADER_LINES,
        LENGTHS,
        TRANSFER_CODINGS,
        CHUNK_LINES,
        CONTENT_CODINGS,
    )
    for row in table.values()
    if len(row[0]) < 1000
]
SPLINTERS = [
    b"",
    b"\r",
    b"\n",
    b" ",
    b":",
    b",",
    b"5",
    b"\0",
    b"\x80",
    b"chunked",
    b"HTTP/1.1 100 x\r\n\r\n",
]


class ResponseTests(SynchronousTestCase):
    maxDiff = None

    def check(self, table, **options):
        expected = {name: tuple(row[1:]) for name, row in table.items()}
        whole = {name: play([row[0]], **options) for name, row in table.items()}
        self.assertEqual(whole, expected)
        for name, (wire, *_) in table.items():
            if len(wire) < 10_000:
                pieces = cut(wire, range(len(wire)))
                self.assertEqual((name, *play(pieces, **options)), (name, *expected[name]))

    @given(
        st.sampled_from(WIRES),
        st.integers(0, 1000),
        st.integers(0, 2),
        st.sampled_from(SPLINTERS),
        st.lists(st.integers(0, 1000), max_size=4),
    )
    def test_a_damaged_response_is_the_same_however_it_is_cut(
        self, wire, place, size, splinter, places
    ):
        place %= len(wire) + 1
        wire = wire[:place] + splinter + wire[place + size :]
        self.assertEqual(play([wire])[:2], play(cut(wire, places))[:2])
        network = Network()
        client = network.client(Cookies())
        call = fetch(client, HOST, auth=Auth("u", "p", digest=True))
        peer = network.accept()
        peer.answer(wire)
        peer.close()
        if not call.is_over:  # it follows a redirect
            call.call.cancel()
        self.assertTrue(call.error is None or isinstance(call.error, FetchError), call.error)

    def test_status_lines(self):
        self.check(STATUS_LINES)

    def test_statuses(self):
        self.check(STATUSES)

    def test_head_requests(self):
        self.check(HEAD_REQUESTS, method=b"HEAD")

    def test_header_lines(self):
        self.check(HEADER_LINES)

    def test_lengths(self):
        self.check(LENGTHS)

    def test_transfer_codings(self):
        self.check(TRANSFER_CODINGS)

    def test_chunk_lines(self):
        self.check(CHUNK_LINES)

    def test_content_codings(self):
        self.check(CONTENT_CODINGS)

    def test_connections(self):
        self.check(CONNECTIONS)
