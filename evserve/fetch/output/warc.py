"""`--warc FILE`: requests and responses, byte for byte, as WARC 1.1 records (ISO 28500:2017)."""

import errno
import os
import re
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import IO, Any, BinaryIO

from attrs import Factory, define, evolve, field, frozen
from twisted.internet.defer import Deferred, DeferredLock

from evserve import __version__
from evserve.fetch.job import Job
from evserve.fetch.output.disk import open_file
from evserve.http.headers import Head, Headers
from evserve.http.request import Request, serialize


_ONLY_IDENTITY = Headers(((b"Accept-Encoding", b"identity"),))
_IN_MEMORY = 256 * 1024  # bytes of a response; longer ones are spooled to disk
_FLUSH_SIZE = 256 * 1024


class MissingWarcio(Exception):  # noqa: N818 - it is missing, not wrong
    """The extra `warc` is not installed."""


@define(eq=False)
class WARCSink:
    """A WARC file, compressed if its name ends in .gz.

    in_thread: as `deferToThread`, because a large record takes a while to compress.  size: after
    how many bytes to append; None for all that is there.  omit: names of headers that records
    leave out.  Raises OSError and MissingWarcio.

    `size` is the size of the file up to the last record whose writer has been told. What follows
    belongs to URLs without a result yet, so a journal that says where a result ends must not
    include it.
    """

    path: Path
    _in_thread: Callable[..., Deferred[Any]]
    _user_agent: str
    _known_size: int | None = field(default=0, alias="size")
    _omit: Sequence[bytes] = ()
    size: int = field(default=0, init=False)
    _file: BinaryIO = field(init=False)
    _records: "RecordFile" = field(init=False)
    _writer: Any = field(init=False)
    _has_warcinfo: bool = field(default=False, init=False)
    _lock: DeferredLock = field(factory=DeferredLock, init=False)
    _omitted: re.Pattern[bytes] | None = field(
        default=Factory(lambda self: _lines_named(self._omit), True), init=False
    )

    def __attrs_post_init__(self) -> None:
        gzip = self.path.name.endswith(".gz")
        make_writer = _import_warcio()
        self._file = open_file(self.path)
        try:
            self.size = append_position(self._file, self.path, self._known_size, gzip=gzip)
            self._records = RecordFile(self._file, self.size)
            self._records.roll_back()  # cut off what follows
        except OSError:
            self._file.close()
            raise
        self._writer = make_writer(self._records, gzip=gzip, warc_version="1.1")

    def prepare(self, request: Request, url: str) -> Request:
        headers = request.headers
        if not headers.lines:
            headers = _ONLY_IDENTITY  # always the same object, which the client recognizes
        elif b"accept-encoding" not in headers:
            headers = headers.plus(*_ONLY_IDENTITY)
        # Rows and files are of what the archive holds, so nothing decodes it on the way.
        return evolve(request, headers=headers, decode=False, tap=Recording(self))

    def open(self, job: Job, head: Head) -> "Recording":
        recording = job.sent.tap
        assert isinstance(recording, Recording)
        recording.open(job.sent, head, self._user_agent)
        return recording

    def append(self, copies: "list[WireCopy]", url: str) -> Deferred[None]:
        """Write the records of responses and their requests, one pair at a time."""
        done: Deferred[None] = self._lock.run(self._append, copies, url)
        return done

    def close(self) -> Deferred[None]:
        """Close the file when the current record is complete."""
        closed: Deferred[None] = self._lock.run(self._close)
        return closed

    @property
    def descriptor(self) -> int:
        """For a sync."""
        return self._file.fileno()

    def _append(self, copies: "list[WireCopy]", url: str) -> Deferred[None]:
        return self._in_thread(self._write, copies, url).addCallback(self._appended)

    def _appended(self, _: None) -> None:
        self.size = self._records.size

    def _close(self) -> None:
        with self._file:
            if self._records.size:
                return
            try:  # a file without a record would not be an archive
                self._write_warcinfo()
            except OSError:  # a full disk, which other errors have reported; nothing is lost
                self._records.roll_back()

    def _write(self, copies: "list[WireCopy]", url: str) -> None:
        try:
            self._write_warcinfo()
            for copy in copies:
                response, request = self._record(copy, url)
                self._writer.write_request_response_pair(request, response)
            self._records.commit()
        except Exception as error:  # a torn record would make the next ones unreadable
            self._records.roll_back()
            if isinstance(error, OSError):
                error.filename = str(self.path)
            raise
        finally:
            for copy in copies:
                copy.response.close()

    def _record(self, copy: "WireCopy", url: str) -> tuple[Any, Any]:
        date = datetime.fromtimestamp(copy.began_at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        about = {"WARC-Date": date}
        if copy.peer is not None:
            about["WARC-IP-Address"] = copy.peer
        create = self._writer.create_warc_record

        def record(kind: str, head: bytes, payload: IO[bytes], length: int) -> Any:
            if self._omitted is not None:
                head = self._omitted.sub(b"", head)
            raw = RawHead(head)
            return create(url, kind, payload, length, warc_headers_dict=about, http_headers=raw)

        head = _final_head(copy.response)
        start = copy.response.tell()
        end = copy.response.seek(0, os.SEEK_END)
        if copy.length is not None and end - start > copy.length:  # bytes after the response
            end = start + copy.length
            copy.response.truncate(end)
        copy.response.seek(start)
        request_head, line_ends, content = b"".join(copy.request).partition(2 * _LINE_END)
        return (
            record("response", head, copy.response, end - start),
            record("request", request_head + line_ends, BytesIO(content), len(content)),
        )

    def _write_warcinfo(self) -> None:
        """Write, once in a run, the record about what wrote the following ones."""
        if not self._has_warcinfo:
            info = {"software": f"evserve/{__version__}", "format": "WARC File Format 1.1"}
            self._writer.write_record(self._writer.create_warcinfo_record(self.path.name, info))
            self._records.commit()
            self._has_warcinfo = True


_HEAD = re.compile(rb"[\r\n]*([^\r\n].*?\n\r?\n)", re.DOTALL)  # and blank lines before it
_INTERIM = re.compile(rb"HTTP/[0-9.]+[ \t]+1[0-9][0-9](?![0-9])", re.IGNORECASE)
_CHUNKED = re.compile(rb"^transfer-encoding[ \t]*:.*chunked", re.IGNORECASE | re.MULTILINE)


@frozen
class RawHead:
    """The head of a message as it was sent, where warcio expects its own StatusAndHeaders.

    That would be written in another way than it was read.
    """

    headers_buff: bytes

    def compute_headers_buffer(self, _: object = None) -> None:
        """Do nothing, because nothing is to be changed."""


def _import_warcio() -> Any:
    """Return warcio's writer, which gives records their headers and digests."""
    try:
        from warcio.warcwriter import WARCWriter
    except ImportError:
        raise MissingWarcio("--warc needs warcio: pip install 'evserve[warc]'") from None

    class Writer(WARCWriter):  # type: ignore[misc]  # warcio has no types
        def ensure_digest(self, record: Any, block: bool = True, payload: bool = True) -> None:
            # The payload is what the chunks contain, but readers compare the chunks themselves.
            head = record.http_headers
            if isinstance(head, RawHead) and _CHUNKED.search(head.headers_buff):
                payload = False
            super().ensure_digest(record, block, payload)

    return Writer


def _final_head(response: IO[bytes]) -> bytes:
    """Return the head after all interim ones; the stream is then where the body begins."""
    response.seek(0)
    data, start = b"", 0
    while piece := response.read(_PIECE):
        data += piece
        while (found := _HEAD.match(data, start)) is not None:
            start = found.end()
            if not _INTERIM.match(found[1]):
                response.seek(start)
                return found[1]
    raise ValueError("a response without a head")


def _compose_head(head: Head) -> bytes:
    """Return a head for a body without transfer coding."""
    lines = [b"HTTP/%b %d %b" % (head.version.encode(), head.status, head.reason)]
    lines += (b"%b: %b" % line for line in head.headers.without(b"transfer-encoding"))
    return b"".join(line + _LINE_END for line in (*lines, b""))


def _lines_named(names: Sequence[bytes]) -> re.Pattern[bytes] | None:
    """Return what matches the lines of these headers, with the lines that continue them."""
    if not names:
        return None
    either = b"|".join(map(re.escape, names))
    return re.compile(rb"^(?:%b)[ \t]*:.*\n(?:[ \t].*\n)*" % either, re.IGNORECASE | re.MULTILINE)


def _temporary_file() -> IO[bytes]:
    return tempfile.SpooledTemporaryFile(_IN_MEMORY)


@define(eq=False)
class WireCopy:
    """A request and its response, as they passed the connection.

    peer: the address of the connection.  began_at: seconds since the epoch.  length: of the
    response's body; None if all that arrived belongs to it.
    """

    peer: str | None
    began_at: float
    length: int | None = field(default=None, init=False)
    request: list[bytes] = field(factory=list, init=False)
    response: IO[bytes] = field(factory=_temporary_file, init=False)


@define(eq=False)
class Recording:
    """Copies one exchange, and those that had to come before it: a Tap and a ResponseWriter.

    A record begins with its length, so a response is spooled first.
    """

    _sink: WARCSink
    current: WireCopy | None = field(default=None, init=False)
    _url: str = field(default="", init=False)
    _is_composed: bool = field(default=False, init=False)
    _copies: list[WireCopy] = field(factory=list, init=False)  # that are complete

    def began(self, peer: str | None) -> None:
        self._forget()
        self.current = WireCopy(peer, time.time())

    def sent(self, data: bytes) -> None:
        assert self.current is not None
        self.current.request.append(data)

    def received(self, data: bytes) -> None:
        assert self.current is not None
        try:
            self.current.response.write(data)
        except OSError as error:
            error.filename = tempfile.gettempdir()
            raise

    def ended(self) -> None:
        assert self.current is not None
        self._copies.append(self.current)
        self.current = None

    def open(self, request: Request, head: Head, user_agent: str) -> None:
        """Take the head of the response that is recorded."""
        self._url = str(request.url)
        if self.current is not None:
            self.current.length = head.length
            return
        # The client, such as another IAgent, knows no Tap. What it tells must do.
        self._is_composed = True
        self.began(None)
        self.sent(serialize(request, user_agent.encode()))
        self.received(_compose_head(head))

    def write(self, data: bytes) -> None:
        if self._is_composed:
            self.received(data)

    def close(self, error: Exception | None) -> Deferred[None] | None:
        if self._is_composed and error is None:
            self.ended()
        self._forget()
        if error is None:
            return self._sink.append(self._copies, self._url)
        for copy in self._copies:  # an incomplete response makes no record
            copy.response.close()
        return None

    def _forget(self) -> None:
        if self.current is not None:
            self.current.response.close()
            self.current = None


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
