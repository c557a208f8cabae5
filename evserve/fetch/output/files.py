"""`--save DIR`: bodies as files, which are complete or not there; partial ones are resumed."""

import json
import os
import re
from contextlib import suppress
from datetime import timedelta
from email.utils import parsedate_to_datetime
from errno import ENOTDIR
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from tempfile import mkdtemp
from typing import BinaryIO
from unicodedata import category, normalize
from urllib.parse import unquote_to_bytes

from attrs import Factory, asdict, define, evolve, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from evserve.fetch.errors import SaveFailed
from evserve.fetch.job import Job
from evserve.fetch.output.disk import Disk, lock, write_all
from evserve.http.headers import Head, Headers
from evserve.http.request import Request
from evserve.http.url import URL, parse_url


_IDENTITY = (b"Accept-Encoding", b"identity")  # a range of a compressed form cannot be appended
_ONLY_IDENTITY = Headers((_IDENTITY,))
_SUCCESS = range(200, 300)
_PARTIAL_CONTENT, _RANGE_NOT_SATISFIABLE = 206, 416
_MIN_RESUMABLE = 64 * 1024  # bytes; less is sooner fetched again than resumed
_PIECE = 1024 * 1024


@frozen
class FilePaths:
    """The paths that belong to a URL."""

    folder: str
    target: str
    part: str  # the file until it is complete
    validator: str  # which version the part is of


@lru_cache(maxsize=4096)
def _paths(top: str, url: str) -> FilePaths:
    target = os.path.join(top, file_name(parse_url(url)))
    return FilePaths(os.path.dirname(target), target, f"{target}.part", f"{target}.part.json")


@define(eq=False)
class FileSink:
    """Saves bodies below `folder`. Errors of the disk fail the URL, not the run.

    resumes: whether partial files may be resumed.  disk: syncs each file before it gets its name;
    None if nothing has to survive a power cut.  private: a folder for parts, if another run
    saves to the same folder; they are not resumed.
    """

    folder: Path
    _clock: IReactorTime
    _resumes: bool = True
    disk: Disk | None = None
    _private: Path | None = None
    in_use: set[str] = field(factory=set, init=False)  # parts that are being written
    _top: str = field(default=Factory(lambda self: os.fspath(self.folder), True), init=False)
    _created: set[str] = field(factory=set, init=False)  # folders

    def prepare(self, request: Request, url: str) -> Request:
        if request.method == b"HEAD":
            return request
        if b"range" in request.headers:
            raise SaveFailed("only whole files are saved (leave out the header Range)")
        partial = self._partial_file(_paths(self._top, url))
        if partial is not None and not partial.validator.is_of(request.url):
            partial = None  # ETags of different resources say nothing about each other
        if partial is None and not request.headers.lines:
            return evolve(request, headers=_ONLY_IDENTITY)
        headers = request.headers.without(b"accept-encoding", b"if-range")
        more = () if partial is None else partial.headers
        return evolve(request, headers=headers.plus(_IDENTITY, *more))

    def open(self, job: Job, head: Head) -> "FileWriter | None":
        if job.sent.method == b"HEAD":  # it has no body, and a GET may have saved one
            return None
        asked_for_rest = b"range" in job.sent.headers
        if head.status not in _SUCCESS:
            if not asked_for_rest or head.status != _RANGE_NOT_SATISFIABLE:
                return None
        elif not asked_for_rest:
            if head.status == _PARTIAL_CONTENT or _is_part(head):
                raise SaveFailed("the server sent a part, although the whole was requested")
            return self._begin(job, head)
        paths = _paths(self._top, job.url)
        partial = self._partial_file(paths)
        if partial is not None:
            size = partial.whole_size(head)
            if head.status == _PARTIAL_CONTENT and partial.is_continued_by(head):
                return self._resume(job, size)
            if partial.is_replaced_by(head):
                return self._begin(job, head, size)
            _remove(paths.validator)  # so that the next request is for the whole
        job.resends = True
        raise SaveFailed("the server did not send what the file lacks")

    def _begin(self, job: Job, head: Head, size: int | None = None) -> "FileWriter":
        paths = _paths(self._top, job.url)
        self._make_folder(paths.folder)
        part = self._free_part(paths)
        is_first = part == paths.part
        is_small = head.length is not None and head.length < _MIN_RESUMABLE
        validator = Validator.of(head) if is_first and not is_small else None
        out = open(part, "wb", buffering=0)
        try:
            if validator is not None:
                write_validator(paths.validator, evolve(validator, url=str(job.sent.url)))
            elif is_first:
                _remove(paths.validator)
        except OSError as error:
            out.close()
            _remove(part)
            _remove(paths.validator)
            error.filename = paths.validator
            raise
        return self._writer(job, paths, part, out, size, is_resumable=validator is not None)

    def _resume(self, job: Job, size: int | None) -> "FileWriter":
        paths = _paths(self._top, job.url)
        source = open(paths.part, "rb")
        try:
            out = open(paths.part, "ab", buffering=0)
        except OSError:
            source.close()
            raise
        writer = self._writer(job, paths, paths.part, out, size, is_resumable=True)
        if job.exchange is not None:
            job.exchange.pause()
        self._clock.callLater(0, writer.rehash, job, source, self._clock)
        return writer

    def _free_part(self, paths: FilePaths) -> str:
        """Return where to write: fetches of the same URL at once need a file each.

        The names are numbered, so that a later run overwrites what a killed one left.
        """
        part = first = paths.part
        if self._private is not None:
            part = first = os.path.join(self._private, os.path.basename(paths.part))
        number = 1
        while part in self.in_use:
            number += 1
            part = f"{first}.{number}"
        return part

    def _make_folder(self, folder: str) -> None:
        if folder in self._created:
            return
        os.makedirs(folder, exist_ok=True)
        self._created.add(folder)
        if self.disk is not None:
            self.disk.include(os.path.dirname(folder))

    def _writer(
        self,
        job: Job,
        paths: FilePaths,
        part: str,
        out: BinaryIO,
        size: int | None,
        *,
        is_resumable: bool,
    ) -> "FileWriter":
        self.in_use.add(part)
        job.path = paths.target
        return FileWriter(job, paths, part, out, self.in_use, self.disk, size, is_resumable)

    def _partial_file(self, paths: FilePaths) -> "PartialFile | None":
        if paths.part in self.in_use or not self._resumes:
            return None
        return read_partial(paths.part, paths.validator)


@define(eq=False)
class FileWriter:
    """Writes a body to `part`, which gets its name when it is complete.

    in_use: contains `part` until this ends.  disk: syncs it; None to leave that to the system.
    size: what the file must have in the end; None if the length of the response says enough.
    """

    _job: Job
    _paths: FilePaths
    _part: str
    _out: BinaryIO  # unbuffered, so that what was received survives this process
    _in_use: set[str]
    _disk: Disk | None
    _size: int | None
    _is_resumable: bool
    _is_closed: bool = field(default=False, init=False)

    def write(self, data: bytes) -> None:
        write_all(self._out, data, self._part)

    def close(self, error: Exception | None) -> Deferred[None] | None:
        self._is_closed = True
        try:
            if error is None:
                self._check_size()
            self._out.close()
        except OSError as failure:
            self._release()
            self._discard()
            failure.filename = self._part
            raise
        if error is not None:
            self._release()
            if not self._is_resumable:
                self._discard()
        elif self._disk is None:
            self._complete()
        else:
            return self._disk.sync(self._part).addCallbacks(self._complete, self._not_synced)
        return None

    def _check_size(self) -> None:
        """Raise SaveFailed if a response to a request with Range did not complete the file."""
        if self._size is None:
            return
        found = os.stat(self._part).st_size
        if found != self._size:
            self._release()
            self._out.close()
            self._discard()
            self._job.resends = True  # from the beginning
            raise SaveFailed(f"the file has {found} bytes instead of {self._size}")

    def _not_synced(self, failure: Failure) -> Failure:
        self._release()
        return failure

    def _complete(self, _: None = None) -> None:
        self._release()
        try:
            os.replace(self._part, self._paths.target)
        except OSError:
            self._discard()
            raise
        if self._is_resumable:
            _remove(self._paths.validator)
        if self._disk is not None:
            self._disk.include(self._paths.folder)

    def _release(self) -> None:
        self._in_use.discard(self._part)

    def _discard(self) -> None:
        if self._part == self._paths.part:  # the validator belongs to no other part
            _remove(self._paths.validator)
        _remove(self._part)

    def rehash(self, job: Job, source: BinaryIO, clock: IReactorTime) -> None:
        """Hash what the file has already, a piece a turn; then resume the response."""
        if self._is_closed:
            source.close()
            return
        assert job.exchange is not None
        try:
            piece = source.read(_PIECE)
        except OSError as error:
            source.close()
            self._is_resumable = False
            error.filename = self._part
            job.exchange.cancel(error)
            return
        job.include(piece)
        if piece:
            clock.callLater(0, self.rehash, job, source, clock)
        else:
            source.close()
            job.exchange.resume()


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


# Partial files, and when the rest may be appended to one (RFC 9110, section 14).

_STRONG_AGE = timedelta(minutes=1)  # from there on a Last-Modified is a strong validator
_CONTENT_RANGE = re.compile(rb"bytes +(\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.IGNORECASE)


@frozen
class Validator:
    """Distinguishes the versions of a resource, byte for byte.

    url: the resource, after redirects.  length: of this version.  None: not known.
    """

    etag: str | None = None
    last_modified: str | None = None
    url: str | None = None
    length: int | None = None

    @classmethod
    def of(cls, head: Head) -> "Validator | None":
        """Return a response's validator; None if it has no strong one, or is encoded.

        A weak ETag promises the same meaning, not the same bytes (section 13.1.5). A file may
        change twice in the second that Last-Modified names, so alone it counts only if that was
        long ago by the server's own clock (section 8.8.2.2).
        """
        if head.encoding is not None:
            return None
        etag, modified = _strong_etag(head), _text(head, b"last-modified")
        if etag is None and not _is_strong(modified, _text(head, b"date")):
            return None
        return cls(etag, modified, length=head.length)

    @property
    def if_range(self) -> bytes:
        """The value for If-Range."""
        return (self.etag or self.last_modified or "").encode("latin-1")

    def is_of(self, url: URL) -> bool:
        """Whether it belongs to this resource: ETags of two resources may be equal."""
        return self.url in (None, str(url))

    def matches(self, head: Head) -> bool:
        """Whether a response is of the same version, as far as it tells."""
        if head.encoding is not None:
            return False
        etag = _text(head, b"etag")
        if self.etag is not None and etag is not None:
            return self.etag == etag  # a weak one is of no version in particular
        return _text(head, b"last-modified") in (None, self.last_modified)


def _is_part(head: Head) -> bool:
    """Whether a 200 brings only a part, by its own words.

    Content-Range has no meaning there (section 14.4), but servers that send it may mean it.
    """
    value = head.headers.get(b"content-range")
    if value is None:
        return _has_parts(head)
    if head.length is not None:
        return value.rpartition(b"/")[2].strip() != b"%d" % head.length
    match = _CONTENT_RANGE.fullmatch(value)
    return match is None or match[1] != b"0" or match[3] != b"%d" % (int(match[2]) + 1)


def _has_parts(head: Head) -> bool:
    kind = head.headers.get(b"content-type") or b""
    return kind.lower().startswith(b"multipart/byteranges")


def _text(head: Head, name: bytes) -> str | None:
    value = head.headers.get(name)
    return None if value is None else value.decode("latin-1")


def _strong_etag(head: Head) -> str | None:
    etag = _text(head, b"etag")
    return None if etag is None or etag.startswith("W/") else etag


def _is_strong(modified: str | None, now: str | None) -> bool:
    try:
        age = parsedate_to_datetime(now or "") - parsedate_to_datetime(modified or "")
    except (ValueError, TypeError):  # one is missing or malformed, or has no time zone
        return False
    return age >= _STRONG_AGE


@frozen
class PartialFile:
    """The first `size` bytes of the version that `validator` names."""

    size: int
    validator: Validator

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """The headers that ask for the rest, or for everything if the version has changed."""
        return (
            (b"Range", b"bytes=%d-" % self.size),
            (b"If-Range", self.validator.if_range),
        )

    def is_continued_by(self, head: Head) -> bool:
        """Whether a 206 response brings all that the file lacks."""
        match = _CONTENT_RANGE.fullmatch(head.headers.get(b"content-range") or b"")
        if match is None or _has_parts(head) or not self.validator.matches(head):
            return False
        start, end = int(match[1]), int(match[2]) + 1
        sizes = {self.validator.length, None if match[3] == b"*" else int(match[3])} - {None}
        return start == self.size and sizes <= {end} and head.length in (None, end - start)

    def is_replaced_by(self, head: Head) -> bool:
        """Whether a 200 response brings everything: this version again, or another one."""
        if head.status not in _SUCCESS or head.status == _PARTIAL_CONTENT or _is_part(head):
            return False
        if head.length is None or not self.validator.matches(head):
            return True
        known = self.validator.length
        return head.length >= self.size if known is None else head.length == known

    def whole_size(self, head: Head) -> int | None:
        """Return the size that the file must have after a response; None if it is not known."""
        if not self.validator.matches(head):
            return None
        match = _CONTENT_RANGE.fullmatch(head.headers.get(b"content-range") or b"")
        return self.validator.length if match is None else int(match[2]) + 1


def read_partial(part: str, validator_path: str) -> PartialFile | None:
    """Return what an earlier try or run left in these files; None if it cannot be resumed."""
    try:
        size = os.stat(part).st_size
        with open(validator_path, "rb") as file:
            validator = Validator(**json.load(file))
        is_part = size > 0 and (validator.length is None or size < validator.length)
        is_resumable = is_part and validator.if_range != b""
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return PartialFile(size, validator) if is_resumable else None


def write_validator(path: str, validator: Validator) -> None:
    """Remember which version a partial file is of."""
    with open(path, "w") as file:
        json.dump(asdict(validator), file)


# File names.

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_MAX_STEM = 80  # characters
_MAX_EXTENSION = 10
_MAX_NAME = 255  # bytes, of every common file system
_LONGEST_SUFFIX = ".part.999999"  # longer than ".part.json"


def file_name(url: URL) -> str:
    """Return a relative path, such as `example.com/report-1a2b3c4d5e.pdf`, of 255 bytes a part.

    The part after the last hyphen is a checksum of the whole URL, so that `?page=1` and
    `?page=2`, a page and a folder of the same name, or names that differ in case, do not collide.
    A name keeps the letters of any script, in NFC and as UTF-8 on the disk. It cannot leave its
    folder or be hidden: it has no slash and begins with a letter, digit or symbol.
    """
    path = url.target.partition("?")[0]
    stem, dot, extension = _safe(_decoded(path.rpartition("/")[2])).rpartition(".")
    if not stem or not 0 < len(extension) <= _MAX_EXTENSION:
        stem, extension, dot = stem + dot + extension, "", ""
    digest = sha256(url.identity.encode()).hexdigest()[:10]
    end = f"-{digest}{dot}{extension}"
    room = _MAX_NAME - len(f"{end}{_LONGEST_SUFFIX}".encode())
    stem = stem.lstrip(".-_")[:_MAX_STEM].encode()[:room].decode("utf-8", "ignore").rstrip(".-_")
    folder = _UNSAFE.sub("_", url.origin.authority).strip(".-_")[:_MAX_NAME] or "_"
    # Python would refuse the letters if the locale has another encoding.
    return os.fsdecode(f"{folder}/{stem or 'index'}{end}".encode())


def _decoded(text: str) -> str:
    """Undo percent-encoding: that of UTF-8, or else of windows-1252."""
    data = unquote_to_bytes(text)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _safe(text: str) -> str:
    """Replace what terminals and other systems dislike in a name, each run by one `_`."""
    text = "".join(each if _is_safe(each) else "/" for each in normalize("NFC", text))
    text = re.sub("/+", "_", text)
    while text and category(text[0]).startswith("M"):  # it would join what stands before the name
        text = text[1:]
    return text


def _is_safe(character: str) -> bool:
    if character.isascii():
        return character.isalnum() or character in "._-"
    # Letters, marks, numbers and symbols; no spaces, line ends, invisible or bidi characters.
    return category(character)[0] in "LMNS" and character != "\ufffd"


# Folders.


def make_folder(folder: Path) -> list[str]:
    """Create a folder and its parents; return the folders that a sync needs. Raises OSError."""
    parents = [folder.absolute().parent]  # of an existing folder, too: it may not be synced yet
    while not parents[-1].exists() and parents[-1] != parents[-1].parent:
        parents.append(parents[-1].parent)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR), str(folder)) from None
    return [str(parent) for parent in parents]


# Where a run keeps its parts if another run saves to the same folder: in a private folder there.
# It is locked as long as its run lives, however that ends, so a later run can tell what is stale.
# A process id would not do, because each machine has its own.

_PREFIX = ".evserve-parts-"  # no host's folder begins like this
_PART_NAME = re.compile(r"\.part(\.[0-9]+)?\Z")  # as in FileSink


def make_private_folder(folder: Path) -> Path:
    """Create a folder in `folder`, locked until this process ends. Raises OSError."""
    while True:
        made = Path(mkdtemp(prefix=_PREFIX, dir=folder))
        with suppress(FileNotFoundError):
            descriptor = os.open(made, os.O_RDONLY)
            if lock(descriptor) and made.exists():
                return made
            os.close(descriptor)  # another run removed it as stale before it was locked


def remove_private_folder(made: Path) -> None:
    """Remove it; it is empty unless the run was interrupted."""
    with suppress(OSError):
        made.rmdir()


def remove_stale_folders(folder: Path) -> None:
    """Remove what killed runs left in `folder`, as far as possible."""
    with suppress(OSError):
        top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for name in os.listdir(top):
                if name.startswith(_PREFIX):
                    with suppress(OSError):
                        _remove_if_stale(name, top)
        finally:
            os.close(top)


def _remove_if_stale(name: str, top: int) -> None:
    # By descriptors throughout: a path may lead elsewhere by the time it is used.
    stale = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
    try:
        if os.fstat(stale).st_uid == os.geteuid() and lock(stale):
            for part in filter(_PART_NAME.search, os.listdir(stale)):
                os.unlink(part, dir_fd=stale)
            os.rmdir(name, dir_fd=top)
    finally:
        os.close(stale)
