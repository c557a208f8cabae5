"""Half a file, and what must be true before the rest may be added to it (RFC 9110, section 14)."""

import json
import os
import re
from datetime import timedelta
from email.utils import parsedate_to_datetime

from attrs import frozen

from evserve.http.headers import Head


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
