"""`--warc FILE`: what was asked and answered, as WARC 1.1 (ISO 28500:2017)."""

from collections.abc import Callable
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any, BinaryIO

from attrs import define, evolve, field
from twisted.internet.defer import Deferred, DeferredLock

from evserve import __version__
from evserve.fetch.messages import Head, Headers
from evserve.fetch.request import Request
from evserve.fetch.seam import Arrival


_IDENTITY = (b"Accept-Encoding", b"identity")
_IN_MEMORY = 256 * 1024  # bytes of a body


def _temporary_file() -> IO[bytes]:
    return SpooledTemporaryFile(_IN_MEMORY)


class MissingWarcio(Exception):  # noqa: N818 - it is missing, not wrong
    """The extra `warc` is not installed."""


@define(eq=False)
class Spool:
    """A response on its way: its length comes first in a record, so the body waits on disk."""

    _archive: "Archive"
    _arrival: Arrival
    _head: Head
    _body: IO[bytes] = field(factory=_temporary_file)

    def write(self, data: bytes) -> None:
        """See seam.Copy."""
        self._body.write(data)

    def close(self, error: Exception | None) -> Deferred[None] | None:
        """See seam.Copy; half a response is no record."""
        if error is not None:
            self._body.close()
            return None
        return self._archive.append(self._arrival.sent, self._head, self._body)


@define(eq=False)
class Archive:
    """A WARC file, compressed if its name ends with .gz.

    in_thread: `deferToThread`, since a large record takes a while to compress.  end: the length
    of the file up to the last complete record.  Raises OSError, MissingWarcio.
    """

    path: Path
    _in_thread: Callable[..., Deferred[Any]]
    _user_agent: str
    end: int = 0
    _file: BinaryIO = field(init=False)
    _writer: Any = field(init=False)
    _lock: DeferredLock = field(factory=DeferredLock, init=False)

    def __attrs_post_init__(self) -> None:
        try:
            from warcio.warcwriter import WARCWriter
        except ImportError:
            raise MissingWarcio("--warc needs warcio: pip install 'evserve[warc]'") from None
        self._file = self.path.open("r+b" if self.end else "wb")
        try:
            self._file.truncate(self.end)
            self._file.seek(self.end)
        except OSError as error:  # a pipe, a device
            raise OSError(error.errno, error.strerror, str(self.path)) from None
        gzip = self.path.name.endswith(".gz")
        self._writer = WARCWriter(self._file, gzip=gzip, warc_version="1.1")
        about = {"software": f"evserve/{__version__}", "format": "WARC File Format 1.1"}
        self._writer.write_record(self._writer.create_warcinfo_record(self.path.name, about))
        self._committed()

    def prepare(self, request: Request, text: str) -> Request:
        """See seam.Store: what is kept is what was sent, so it is asked for as it is."""
        headers = request.headers.without(b"accept-encoding").plus(_IDENTITY)
        return evolve(request, headers=headers, decode=False)

    def open(self, arrival: Arrival, head: Head) -> Spool:
        """See seam.Store: everything is kept, redirects and errors too."""
        return Spool(self, arrival, head)

    def append(self, request: Request, head: Head, body: IO[bytes]) -> Deferred[None]:
        """Write the records of a response and its request; one pair at a time."""
        done: Deferred[None] = self._lock.run(self._in_thread, self._write, request, head, body)
        return done

    def close(self) -> Deferred[None]:
        """Close the file once the record being written is complete."""
        closed: Deferred[None] = self._lock.run(self._file.close)
        return closed

    @property
    def descriptor(self) -> int:
        """What a sync needs."""
        return self._file.fileno()

    def _committed(self) -> None:
        self.end = self._file.tell()

    def _write(self, request: Request, head: Head, body: IO[bytes]) -> None:
        with body:
            length = body.tell()
            body.seek(0)
            url = str(request.url)
            http = _answered(head)
            create = self._writer.create_warc_record
            response = create(url, "response", payload=body, length=length, http_headers=http)
            asked = create(url, "request", http_headers=self._asked(request))
            try:
                self._writer.write_request_response_pair(asked, response)
            except OSError:  # a torn record would spoil what follows
                self._file.seek(self.end)
                self._file.truncate()
                raise
        self._committed()

    def _asked(self, request: Request) -> Any:
        own = [
            (b"Host", request.url.origin.authority.encode("ascii")),
            (b"User-Agent", self._user_agent.encode()),
            (b"Accept", b"*/*"),
        ]
        line = f"{request.method.decode('ascii')} {request.url.target} HTTP/1.1"
        return _block(line, Headers([*own, *request.headers]))


def _answered(head: Head) -> Any:
    line = f"HTTP/{head.version} {head.status} {head.reason.decode('latin-1')}"
    # The body is kept without its transfer coding, so the header must not promise one.
    return _block(line, head.headers.without(b"transfer-encoding"))


def _block(line: str, headers: Headers) -> Any:
    """Return warcio's form of a first line and headers."""
    from warcio.statusandheaders import StatusAndHeaders

    lines = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
    return StatusAndHeaders(line, lines, is_http_request=True)
