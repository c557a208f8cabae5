"""`--warc FILE`: what was asked and answered, as WARC 1.1 (ISO 28500:2017)."""

import errno
import os
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, BinaryIO

from attrs import define, evolve, field
from twisted.internet.defer import Deferred, DeferredLock

from evserve import __version__
from evserve.fetch.interfaces import Arrival
from evserve.fetch.output.disk import open_file
from evserve.http.messages import Head, Headers
from evserve.http.request import Request


_BEGINNING = b"WARC/"
_END = b"\r\n"
_LONGEST_LINE = 1024 * 1024
_PIECE = 64 * 1024
_ENOUGH = 256 * 1024  # bytes, for one write


@define(eq=False)
class Whole:
    """A file for warcio to write to: a record is in it, or nothing of it.

    A buffer of Python's own would try again, at some later time, what a full disk refused.
    """

    _file: BinaryIO  # unbuffered
    end: int  # the length of the file up to the last complete record
    _pieces: list[bytes] = field(factory=list, init=False)
    _gathered: int = field(default=0, init=False)  # bytes

    def write(self, data: bytes) -> None:
        """Take a part of a record."""
        self._pieces.append(data)
        self._gathered += len(data)
        if self._gathered > _ENOUGH:
            self.flush()

    def flush(self) -> None:
        """Give what was taken to the file."""
        data, self._gathered = b"".join(self._pieces), 0
        self._pieces.clear()
        while data:
            data = data[self._file.write(data) :]

    def keep(self) -> None:
        """Note that what was written is complete."""
        self.flush()
        self.end = self._file.tell()

    def give_up(self) -> None:
        """Cut off what was written since."""
        self._pieces.clear()
        self._gathered = 0
        self._file.seek(self.end)
        self._file.truncate()


def place_to_go_on(file: BinaryIO, path: Path, begins: int | None, *, gzip: bool) -> int:
    """Return after how many bytes of an archive the next record belongs; raises OSError.

    begins: how many there should be, None for what is there.  An archive that the journal does not
    know, or that has become shorter, may end with half a record, which nobody could read on from.
    """
    size = os.fstat(file.fileno()).st_size
    if size == 0 or (begins is not None and begins <= size):
        return min(begins or 0, size)
    return whole_records(path, gzip=gzip)


def whole_records(path: Path, *, gzip: bool) -> int:
    """Return how many bytes are whole records; what follows is the beginning of one, or nothing.

    Raises OSError, also if something else follows.  gzip: each record is a member of its own (ISO
    28500:2017, annex D). Members do not say how long they are, so all of them are decompressed; of
    other records only the heads are read.
    """
    end, following = 0, _end_of_member if gzip else _end_of_record
    with path.open("rb") as file:
        try:
            while (found := following(file)) is not None:
                end = found
                file.seek(end)
        except _NotARecordError:
            what = f"no WARC record at byte {end}, so none can be added"
            raise OSError(errno.EINVAL, what, str(path)) from None
    return end


class _NotARecordError(Exception):
    """Neither a record nor the beginning of one."""


def _end_of_record(file: BinaryIO) -> int | None:
    """Return where the record that begins here ends; None if the file ends before that."""
    line, length = file.readline(_LONGEST_LINE), None
    _check_beginning(line)
    while line.endswith(_END) and line != _END:
        line = file.readline(_LONGEST_LINE)
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length" and value.strip().isdigit():
            length = int(value)
    if line != _END:
        if file.read(1):  # no head, then
            raise _NotARecordError
        return None
    if length is None:
        raise _NotARecordError
    file.seek(length, os.SEEK_CUR)
    following = file.read(2 * len(_END))
    if not (2 * _END).startswith(following):
        raise _NotARecordError
    return file.tell() if following == 2 * _END else None


def _end_of_member(file: BinaryIO) -> int | None:
    member = zlib.decompressobj(zlib.MAX_WBITS | 16)
    piece, beginning = file.read(_PIECE), b""
    while piece:
        try:
            found = member.decompress(piece, _PIECE)
        except zlib.error:
            raise _NotARecordError from None
        beginning = beginning or found
        _check_beginning(beginning)
        if member.eof:
            return file.tell() - len(member.unused_data)
        # At the end of the file as well: the last bytes of a member are no longer output.
        piece = member.unconsumed_tail or file.read(_PIECE)
    return None


def _check_beginning(data: bytes) -> None:
    if data[: len(_BEGINNING)] != _BEGINNING[: len(data)]:
        raise _NotARecordError


_IDENTITY = (b"Accept-Encoding", b"identity")
_IN_MEMORY = 256 * 1024  # bytes of a body


def _temporary_file() -> IO[bytes]:
    return tempfile.SpooledTemporaryFile(_IN_MEMORY)


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
        try:
            self._body.write(data)
        except OSError as error:
            error.filename = tempfile.gettempdir()
            raise

    def close(self, error: Exception | None) -> Deferred[None] | None:
        """See seam.Copy; half a response is no record."""
        if error is not None:
            self._body.close()
            return None
        return self._archive.append(self._arrival.sent, self._head, self._body)


@define(eq=False)
class Archive:
    """A WARC file, compressed if its name ends with .gz.

    in_thread: `deferToThread`, since a large record takes a while to compress.  end: after how
    many bytes it goes on; None for after all that is there.  Raises OSError, MissingWarcio.
    """

    path: Path
    _in_thread: Callable[..., Deferred[Any]]
    _user_agent: str
    _begins: int | None = field(default=0, alias="end")
    _file: BinaryIO = field(init=False)
    _out: Whole = field(init=False)
    _writer: Any = field(init=False)
    _is_introduced: bool = field(default=False, init=False)
    _lock: DeferredLock = field(factory=DeferredLock, init=False)

    def __attrs_post_init__(self) -> None:
        try:
            from warcio.warcwriter import WARCWriter
        except ImportError:
            raise MissingWarcio("--warc needs warcio: pip install 'evserve[warc]'") from None
        gzip = self.path.name.endswith(".gz")
        self._file = open_file(self.path)
        try:
            place = place_to_go_on(self._file, self.path, self._begins, gzip=gzip)
            self._out = Whole(self._file, place)
            self._out.give_up()  # whatever follows
        except OSError:
            self._file.close()
            raise
        self._writer = WARCWriter(self._out, gzip=gzip, warc_version="1.1")

    @property
    def end(self) -> int:
        """The length of the file up to the last complete record."""
        return self._out.end

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
        closed: Deferred[None] = self._lock.run(self._close)
        return closed

    @property
    def descriptor(self) -> int:
        """What a sync needs."""
        return self._file.fileno()

    def _close(self) -> None:
        with self._file:
            if self.end:
                return
            try:  # a file without a record would be no archive
                self._introduce()
            except OSError:  # a full disk, which is no news by now; nothing is lost
                self._out.give_up()

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
                self._introduce()
                self._writer.write_request_response_pair(asked, response)
                self._out.keep()
            except Exception as error:  # a torn record would spoil what follows
                self._out.give_up()
                if isinstance(error, OSError):
                    error.filename = str(self.path)
                raise

    def _introduce(self) -> None:
        """Say once in a run what wrote the records that follow."""
        if not self._is_introduced:
            about = {"software": f"evserve/{__version__}", "format": "WARC File Format 1.1"}
            self._writer.write_record(self._writer.create_warcinfo_record(self.path.name, about))
            self._out.keep()
            self._is_introduced = True

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
