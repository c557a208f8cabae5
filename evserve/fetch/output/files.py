"""`--save DIR`: bodies as files, complete or not there, continued where a run was cut short."""

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
from urllib.parse import unquote

from attrs import Factory, define, evolve, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from evserve.fetch.errors import SaveFailed
from evserve.fetch.interfaces import Arrival
from evserve.fetch.output.disk import Disk, claim, write_all
from evserve.http.messages import Head, Headers
from evserve.http.request import Request
from evserve.http.url import URL, parse_url


SETTLED = timedelta(minutes=1)  # the age at which a Last-Modified is strong
PARTIAL, NOT_SATISFIABLE = 206, 416
_CONTENT_RANGE = re.compile(rb"bytes (\d+)-(\d+)/(\d+|\*)")


@frozen
class Validator:
    """What tells one version of a resource from another, byte by byte."""

    etag: str | None = None
    last_modified: str | None = None

    @classmethod
    def of(cls, head: Head) -> "Validator | None":
        """Return a response's; None if it has none to rely on, or its length is that of a coding.

        A weak ETag promises the same meaning, not the same bytes (section 13.1.5). A file may
        change twice in the second that Last-Modified names, so on its own it counts only if that
        was long ago by the server's own clock (section 8.8.2.2).
        """
        if head.encoding is not None:
            return None
        etag, modified = _strong_etag(head), _text(head, b"last-modified")
        if etag is None and not _has_settled(modified, _text(head, b"date")):
            return None
        return cls(etag, modified)

    @property
    def if_range(self) -> bytes:
        """The value for If-Range."""
        return (self.etag or self.last_modified or "").encode("latin-1")

    def matches(self, head: Head) -> bool:
        """Whether a response is of the same version, as far as it says."""
        if head.encoding is not None:
            return False
        etag = _strong_etag(head)
        if self.etag is not None and etag is not None:
            return self.etag == etag
        return _text(head, b"last-modified") in (None, self.last_modified)


def _text(head: Head, name: bytes) -> str | None:
    value = head.headers.get(name)
    return None if value is None else value.decode("latin-1")


def _strong_etag(head: Head) -> str | None:
    etag = _text(head, b"etag")
    return None if etag is None or etag.startswith("W/") else etag


def _has_settled(modified: str | None, now: str | None) -> bool:
    try:
        age = parsedate_to_datetime(now or "") - parsedate_to_datetime(modified or "")
    except (ValueError, TypeError):  # none, nonsense, or only one with a time zone
        return False
    return age >= SETTLED


@frozen
class Partial:
    """The beginning of a file: `size` bytes of the version that `validator` tells."""

    size: int
    validator: Validator

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """What asks for the rest, or for everything if the version has changed."""
        return (
            (b"Range", b"bytes=%d-" % self.size),
            (b"If-Range", self.validator.if_range),
        )

    def continues(self, head: Head) -> bool:
        """Whether a 206 response goes on where the file ends."""
        match = _CONTENT_RANGE.fullmatch(head.headers.get(b"content-range") or b"")
        if match is None or int(match[1]) != self.size or not self.validator.matches(head):
            return False
        return match[3] == b"*" or int(match[2]) + 1 == int(match[3])


def read_partial(part: str, notes: str) -> Partial | None:
    """Return what an earlier run left in these files; None if that is nothing to go on from."""
    try:
        size = os.stat(part).st_size
        with open(notes, "rb") as file:
            noted = json.load(file)
        validator = Validator(noted["etag"], noted["last_modified"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Partial(size, validator) if size and validator.if_range else None


def write_notes(notes: str, validator: Validator) -> None:
    """Remember which version a partial file is of."""
    noted = {"etag": validator.etag, "last_modified": validator.last_modified}
    with open(notes, "w") as file:
        json.dump(noted, file)


_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST = 80  # characters of what is readable


def file_name(url: URL) -> str:
    """Return a relative path, such as `example.com/report-1a2b3c4d5e.pdf`.

    The part after the last hyphen comes from the whole URL, so that `?page=1` and `?page=2`, or a
    page and a folder of its name, do not meet. A name cannot leave its folder or hide itself: it
    holds no slash and begins with a letter or digit.
    """
    path = url.target.partition("?")[0]
    stem, dot, extension = _safe(unquote(path.rpartition("/")[2])).rpartition(".")
    if not stem or len(extension) > 10:  # noqa: PLR2004 - no extension is that long
        stem, extension, dot = stem + dot + extension, "", ""
    stem = stem[:_LONGEST].strip(".-_") or "index"
    digest = sha256(url.identity.encode()).hexdigest()[:10]
    folder = _safe(url.origin.authority).strip(".-_") or "_"
    return f"{folder}/{stem}-{digest}{dot}{extension}"


def _safe(text: str) -> str:
    return _UNSAFE.sub("_", text)


def make_folder(folder: Path) -> list[str]:
    """Make a folder and what leads there; return the folders to sync; raises OSError."""
    holders = [folder.absolute().parent]  # for a folder that is there, too: who knows since when
    while not holders[-1].exists() and holders[-1] != holders[-1].parent:
        holders.append(holders[-1].parent)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR), str(folder)) from None
    return [str(holder) for holder in holders]


_PREFIX = ".evserve-parts-"  # no host's name begins like this
_PART = re.compile(r"\.part(\.[0-9]+)?\Z")  # see FileStore


def make_apart(folder: Path) -> Path:
    """Make a folder in `folder` and claim it until this process ends; raises OSError."""
    while True:
        made = Path(mkdtemp(prefix=_PREFIX, dir=folder))
        with suppress(FileNotFoundError):
            descriptor = os.open(made, os.O_RDONLY)
            if claim(descriptor) and made.exists():
                return made
            os.close(descriptor)  # somebody took it for left behind before it was claimed


def remove_apart(made: Path) -> None:
    """Remove what `make_apart` made, which is empty when a run ends in good order."""
    with suppress(OSError):
        made.rmdir()


def remove_left_behind(folder: Path) -> None:
    """Remove what runs that were killed have left in `folder`, as far as that is possible."""
    with suppress(OSError):
        top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for name in [each for each in os.listdir(top) if each.startswith(_PREFIX)]:
                with suppress(OSError):
                    _remove_if_unclaimed(name, top)
        finally:
            os.close(top)


# By descriptors throughout: a path may lead elsewhere by the time it is used.
def _remove_if_unclaimed(name: str, top: int) -> None:
    left = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
    try:
        if os.fstat(left).st_uid == os.geteuid() and claim(left):
            for part in filter(_PART.search, os.listdir(left)):
                os.unlink(part, dir_fd=left)
            os.rmdir(name, dir_fd=top)
    finally:
        os.close(left)


_PIECE = 1024 * 1024


@frozen
class Places:
    """The paths that belong to a URL."""

    folder: str
    target: str
    part: str
    notes: str


@define(eq=False)
class Download:
    """A file being written.

    part: where; `busy` has it until this is over.  disk: what syncs it; None if nothing does.
    """

    _places: Places
    _part: str
    _out: BinaryIO  # unbuffered: what was received survives this process
    _busy: set[str]
    _disk: Disk | None
    _is_resumable: bool
    _is_closed: bool = field(default=False, init=False)

    def write(self, data: bytes) -> None:
        """See seam.Copy."""
        write_all(self._out, data, self._part)

    def close(self, error: Exception | None) -> Deferred[None] | None:
        """See seam.Copy."""
        self._is_closed = True
        try:
            self._out.close()
        except OSError as trouble:
            self._release()
            self._discard()
            trouble.filename = self._part
            raise
        disk = self._disk
        if error is not None:
            self._release()
            if not self._is_resumable:
                self._discard()
        elif disk is None:
            self._complete()
        else:
            synced: Deferred[None] = Deferred()
            disk.synced(lambda trouble: self._synced(synced, trouble), self._part)
            return synced
        return None

    def _synced(self, done: Deferred[None], trouble: OSError | None) -> None:
        try:
            if trouble is not None:
                self._release()
                raise trouble
            self._complete()
        except OSError as error:
            done.errback(error)
        else:
            done.callback(None)

    def _complete(self) -> None:
        self._release()
        try:
            os.replace(self._part, self._places.target)
        except OSError:
            self._discard()
            raise
        if self._is_resumable:
            remove(self._places.notes)
        if self._disk is not None:
            self._disk.touched(self._places.folder)

    def _release(self) -> None:
        self._busy.discard(self._part)

    def _discard(self) -> None:
        if self._part == self._places.part:  # the notes are about no other
            remove(self._places.notes)
        remove(self._part)

    def hash_again(self, arrival: Arrival, source: BinaryIO, clock: IReactorTime) -> None:
        """Hash what is there already, a piece a turn, before the rest is taken."""
        if self._is_closed:
            source.close()
            return
        assert arrival.exchange is not None
        try:
            piece = source.read(_PIECE)
        except OSError as error:
            source.close()
            self._is_resumable = False
            error.filename = self._part
            arrival.exchange.cancel(error)
            return
        arrival.hasher.update(piece)
        arrival.count += len(piece)
        if piece:
            clock.callLater(0, self.hash_again, arrival, source, clock)
        else:
            source.close()
            arrival.exchange.resume()


def remove(path: str) -> None:
    """Remove a file if it is there."""
    with suppress(FileNotFoundError):
        os.unlink(path)


_IDENTITY = (b"Accept-Encoding", b"identity")  # ranges of a compressed form fit nothing
_ONLY_IDENTITY = Headers((_IDENTITY,))
_SUCCESS = range(200, 300)
_SMALL = 64 * 1024  # bytes; less is sooner fetched again than continued


@lru_cache(maxsize=4096)
def _places(top: str, text: str) -> Places:
    target = os.path.join(top, file_name(parse_url(text)))
    return Places(os.path.dirname(target), target, f"{target}.part", f"{target}.part.json")


@define(eq=False)
class FileStore:
    """Saves what was fetched below `folder`.

    Errors of the disk fail the URL, not the run.  resumes: whether half a file may be continued.
    disk: what syncs each file before it gets its name; None if a power cut is nobody's worry.
    apart: a folder for parts, where another run writes to the same one; they are not continued.
    """

    folder: Path
    _clock: IReactorTime
    _resumes: bool = True
    disk: Disk | None = None
    _apart: Path | None = None
    busy: set[str] = field(factory=set, init=False)  # parts that are being written
    _top: str = field(default=Factory(lambda self: os.fspath(self.folder), True), init=False)
    _made: set[str] = field(factory=set, init=False)  # folders

    def prepare(self, request: Request, text: str) -> Request:
        """See seam.Store: ask for the rest if the beginning is there."""
        partial = self._partial(self._places(text))
        if partial is None and not request.headers.lines:
            return evolve(request, headers=_ONLY_IDENTITY)
        headers = request.headers.without(b"accept-encoding", b"range", b"if-range")
        more = () if partial is None else partial.headers
        return evolve(request, headers=headers.plus(_IDENTITY, *more))

    def open(self, arrival: Arrival, head: Head) -> Download | None:
        """See seam.Store."""
        is_rest = b"range" in arrival.sent.headers
        if head.status in (PARTIAL, NOT_SATISFIABLE) and is_rest:
            return self._continue(arrival, head)
        if head.status not in _SUCCESS:
            return None
        if head.status == PARTIAL:
            raise SaveFailed("the server sent a part where the whole was asked for")
        return self._begin(arrival, head)

    def _begin(self, arrival: Arrival, head: Head) -> Download:
        places = self._places(arrival.text)
        self._make(places.folder)
        part = self._free_part(places)
        is_first = part == places.part
        is_small = head.length is not None and head.length < _SMALL
        validator = Validator.of(head) if is_first and not is_small else None
        out = open(part, "wb", buffering=0)
        try:
            if validator is not None:
                write_notes(places.notes, validator)
            elif is_first:
                remove(places.notes)
        except OSError as error:
            out.close()
            remove(part)
            remove(places.notes)
            error.filename = places.notes
            raise
        return self._download(arrival, out, part, is_resumable=validator is not None)

    def _free_part(self, places: Places) -> str:
        """Return where to write: the same URL, several times at once, is as many files.

        The names are numbered, so that what a killed run left is written over by a later one.
        """
        part = first = places.part
        if self._apart is not None:
            part = first = os.path.join(self._apart, os.path.basename(places.part))
        number = 1
        while part in self.busy:
            number += 1
            part = f"{first}.{number}"
        return part

    def _make(self, folder: str) -> None:
        if folder in self._made:
            return
        os.makedirs(folder, exist_ok=True)
        self._made.add(folder)
        if self.disk is not None:
            self.disk.touched(os.path.dirname(folder))

    def _continue(self, arrival: Arrival, head: Head) -> Download:
        places = self._places(arrival.text)
        partial = self._partial(places)
        if head.status == NOT_SATISFIABLE or partial is None or not partial.continues(head):
            arrival.again = True
            if partial is not None:
                remove(places.notes)
            raise SaveFailed("the server does not go on where the file ends")
        source = open(places.part, "rb")
        try:
            out = open(places.part, "ab", buffering=0)
        except OSError:
            source.close()
            raise
        download = self._download(arrival, out, places.part, is_resumable=True)
        if arrival.exchange is not None:
            arrival.exchange.pause()
        self._clock.callLater(0, download.hash_again, arrival, source, self._clock)
        return download

    def _download(
        self, arrival: Arrival, out: BinaryIO, part: str, *, is_resumable: bool
    ) -> Download:
        places = self._places(arrival.text)
        self.busy.add(part)
        arrival.path = places.target
        return Download(places, part, out, self.busy, self.disk, is_resumable)

    def _partial(self, places: Places) -> Partial | None:
        if places.part in self.busy or not self._resumes:
            return None
        return read_partial(places.part, places.notes)

    def _places(self, text: str) -> Places:
        return _places(self._top, text)
