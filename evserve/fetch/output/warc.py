"""`--warc FILE`: requests and responses as WARC 1.1 records (ISO 28500:2017)."""

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
from evserve.fetch.job import Job
from evserve.fetch.output.disk import open_file
from evserve.http.headers import Head, Headers
from evserve.http.request import Request


_IDENTITY = (b"Accept-Encoding", b"identity")
_IN_MEMORY = 256 * 1024  # bytes of a body; longer ones are spooled to disk
_FLUSH_SIZE = 256 * 1024


class MissingWarcio(Exception):  # noqa: N818 - it is missing, not wrong
    """The extra `warc` is not installed."""


@define(eq=False)
class WARCSink:
    """A WARC file, compressed if its name ends in .gz.

    in_thread: as `deferToThread`, because a large record takes a while to compress.  size: after
    how many bytes to append; None for all that is there.  Raises OSError and MissingWarcio.
    """

    path: Path
    _in_thread: Callable[..., Deferred[Any]]
    _user_agent: str
    _known_size: int | None = field(default=0, alias="size")
    _file: BinaryIO = field(init=False)
    _records: "RecordFile" = field(init=False)
    _writer: Any = field(init=False)
    _has_warcinfo: bool = field(default=False, init=False)
    _lock: DeferredLock = field(factory=DeferredLock, init=False)

    def __attrs_post_init__(self) -> None:
        try:
            from warcio.warcwriter import WARCWriter
        except ImportError:
            raise MissingWarcio("--warc needs warcio: pip install 'evserve[warc]'") from None
        gzip = self.path.name.endswith(".gz")
        self._file = open_file(self.path)
        try:
            size = append_position(self._file, self.path, self._known_size, gzip=gzip)
            self._records = RecordFile(self._file, size)
            self._records.roll_back()  # cut off what follows
        except OSError:
            self._file.close()
            raise
        self._writer = WARCWriter(self._records, gzip=gzip, warc_version="1.1")

    @property
    def size(self) -> int:
        """The size of the file up to the last complete record."""
        return self._records.size

    def prepare(self, request: Request, url: str) -> Request:
        # A record holds what the server sent, so nothing may decode it on the way.
        headers = request.headers.without(b"accept-encoding").plus(_IDENTITY)
        return evolve(request, headers=headers, decode=False)

    def open(self, job: Job, head: Head) -> "SpooledResponse":
        return SpooledResponse(self, job, head)

    def append(self, request: Request, head: Head, body: IO[bytes]) -> Deferred[None]:
        """Write the records of a response and its request, one pair at a time."""
        done: Deferred[None] = self._lock.run(self._in_thread, self._write, request, head, body)
        return done

    def close(self) -> Deferred[None]:
        """Close the file when the current record is complete."""
        closed: Deferred[None] = self._lock.run(self._close)
        return closed

    @property
    def descriptor(self) -> int:
        """For a sync."""
        return self._file.fileno()

    def _close(self) -> None:
        with self._file:
            if self.size:
                return
            try:  # a file without a record would not be an archive
                self._write_warcinfo()
            except OSError:  # a full disk, which other errors have reported; nothing is lost
                self._records.roll_back()

    def _write(self, request: Request, head: Head, body: IO[bytes]) -> None:
        with body:
            length = body.tell()
            body.seek(0)
            url = str(request.url)
            create = self._writer.create_warc_record
            response_record = create(
                url, "response", payload=body, length=length, http_headers=_response_head(head)
            )
            request_record = create(url, "request", http_headers=self._request_head(request))
            try:
                self._write_warcinfo()
                self._writer.write_request_response_pair(request_record, response_record)
                self._records.commit()
            except Exception as error:  # a torn record would make the next ones unreadable
                self._records.roll_back()
                if isinstance(error, OSError):
                    error.filename = str(self.path)
                raise

    def _write_warcinfo(self) -> None:
        """Write, once in a run, the record about what wrote the following ones."""
        if not self._has_warcinfo:
            info = {"software": f"evserve/{__version__}", "format": "WARC File Format 1.1"}
            self._writer.write_record(self._writer.create_warcinfo_record(self.path.name, info))
            self._records.commit()
            self._has_warcinfo = True

    def _request_head(self, request: Request) -> Any:
        own = [
            (b"Host", request.url.origin.authority.encode("ascii")),
            (b"User-Agent", self._user_agent.encode()),
            (b"Accept", b"*/*"),
        ]
        line = f"{request.method.decode('ascii')} {request.url.target} HTTP/1.1"
        return _warcio_head(line, Headers([*own, *request.headers]))


def _response_head(head: Head) -> Any:
    line = f"HTTP/{head.version} {head.status} {head.reason.decode('latin-1')}"
    # The body is stored without its transfer coding, so the header must not name one.
    return _warcio_head(line, head.headers.without(b"transfer-encoding"))


def _warcio_head(line: str, headers: Headers) -> Any:
    from warcio.statusandheaders import StatusAndHeaders

    lines = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
    return StatusAndHeaders(line, lines, is_http_request=True)


def _temporary_file() -> IO[bytes]:
    return tempfile.SpooledTemporaryFile(_IN_MEMORY)


@define(eq=False)
class SpooledResponse:
    """A response on its way: a record begins with its length, so the body is spooled first."""

    _sink: WARCSink
    _job: Job
    _head: Head
    _body: IO[bytes] = field(factory=_temporary_file)

    def write(self, data: bytes) -> None:
        try:
            self._body.write(data)
        except OSError as error:
            error.filename = tempfile.gettempdir()
            raise

    def close(self, error: Exception | None) -> Deferred[None] | None:
        if error is not None:  # an incomplete response makes no record
            self._body.close()
            return None
        return self._sink.append(self._job.sent, self._head, self._body)


@define(eq=False)
class RecordFile:
    """A file for warcio to write to, with whole records only: a reader stops at half a one.

    A buffer of Python's own would try again later to write what a full disk refused.
    """

    _file: BinaryIO  # unbuffered
    size: int  # up to the last complete record
    _pieces: list[bytes] = field(factory=list, init=False)
    _pending: int = field(default=0, init=False)  # their bytes

    def write(self, data: bytes) -> None:
        """Take a part of a record."""
        self._pieces.append(data)
        self._pending += len(data)
        if self._pending > _FLUSH_SIZE:
            self.flush()

    def flush(self) -> None:
        """Write all parts to the file."""
        data, self._pending = b"".join(self._pieces), 0
        self._pieces.clear()
        while data:
            data = data[self._file.write(data) :]

    def commit(self) -> None:
        """Write all parts; the record is complete."""
        self.flush()
        self.size = self._file.tell()

    def roll_back(self) -> None:
        """Cut off what was written since the last complete record."""
        self._pieces.clear()
        self._pending = 0
        self._file.seek(self.size)
        self._file.truncate()


_MAGIC = b"WARC/"
_LINE_END = b"\r\n"
_MAX_LINE = 1024 * 1024
_PIECE = 64 * 1024


def append_position(file: BinaryIO, path: Path, known: int | None, *, gzip: bool) -> int:
    """Return after how many bytes of a WARC file to append. Raises OSError.

    known: the size up to the last complete record, according to the journal; None without one.
    A file that the journal does not know, or that has become shorter, may end with half a record.
    """
    size = os.fstat(file.fileno()).st_size
    if size == 0 or (known is not None and known <= size):
        return min(known or 0, size)
    return complete_records_size(path, gzip=gzip)


def complete_records_size(path: Path, *, gzip: bool) -> int:
    """Return how many bytes are complete records; at most the beginning of one may follow.

    Raises OSError, also if anything else follows.  gzip: each record is a member of its own (ISO
    28500:2017, annex D). Members do not state their length, so all are decompressed; of plain
    records only the heads are read.
    """
    end, find_end = 0, _end_of_member if gzip else _end_of_record
    with path.open("rb") as file:
        try:
            while (found := find_end(file)) is not None:
                end = found
                file.seek(end)
        except _NotARecordError:
            problem = f"no WARC record at byte {end}, so none can be added"
            raise OSError(errno.EINVAL, problem, str(path)) from None
    return end


class _NotARecordError(Exception):
    """Neither a record nor the beginning of one."""


def _end_of_record(file: BinaryIO) -> int | None:
    """Return where the record at the file's position ends; None if it is not complete."""
    line, length = file.readline(_MAX_LINE), None
    _check_magic(line)
    while line.endswith(_LINE_END) and line != _LINE_END:
        line = file.readline(_MAX_LINE)
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length" and value.strip().isdigit():
            length = int(value)
    if line != _LINE_END:
        if file.read(1):  # a line without its end, and more: not a head
            raise _NotARecordError
        return None
    if length is None:
        raise _NotARecordError
    file.seek(length, os.SEEK_CUR)
    following = file.read(2 * len(_LINE_END))
    if not (2 * _LINE_END).startswith(following):
        raise _NotARecordError
    return file.tell() if following == 2 * _LINE_END else None


def _end_of_member(file: BinaryIO) -> int | None:
    member = zlib.decompressobj(zlib.MAX_WBITS | 16)
    piece, beginning = file.read(_PIECE), b""
    while piece:
        try:
            found = member.decompress(piece, _PIECE)
        except zlib.error:
            raise _NotARecordError from None
        beginning = beginning or found
        _check_magic(beginning)
        if member.eof:
            return file.tell() - len(member.unused_data)
        # At the end of the file as well: the last bytes of a member produce no output.
        piece = member.unconsumed_tail or file.read(_PIECE)
    return None


def _check_magic(data: bytes) -> None:
    if data[: len(_MAGIC)] != _MAGIC[: len(data)]:
        raise _NotARecordError
