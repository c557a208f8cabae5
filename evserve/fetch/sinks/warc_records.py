"""Whole records of an archive: nothing can be read behind half of one."""

import errno
import os
import zlib
from pathlib import Path
from typing import BinaryIO

from attrs import define, field


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

    begins: how many there should be, None for what is there.  Where an archive has become
    shorter, that is behind its last whole record; what was never ours is not cut.
    """
    size = os.fstat(file.fileno()).st_size
    if size == 0 or (begins is not None and begins <= size):
        return min(begins or 0, size)
    end = whole_records(path, gzip=gzip)
    if end == 0 or (end < size and begins is None):  # it is not ours to cut
        what = "does not end with a whole record" if end else "does not begin with a WARC record"
        raise OSError(errno.EINVAL, f"{what}, so none can be added", str(path))
    return end


def whole_records(path: Path, *, gzip: bool) -> int:
    """Return how many bytes from the beginning are whole records; raises OSError.

    gzip: each record is a member of its own (ISO 28500:2017, annex D). Members do not say how
    long they are, so all of them are decompressed; of other records only the heads are read.
    """
    end, following = 0, _end_of_member if gzip else _end_of_record
    with path.open("rb") as file:
        while (found := following(file)) is not None:
            end = found
            file.seek(end)
    return end


def _end_of_record(file: BinaryIO) -> int | None:
    """Return where the record that begins here ends; None if it does not."""
    line, length = file.readline(_LONGEST_LINE), None
    if not line.startswith(_BEGINNING):
        return None
    while line.endswith(_END) and line != _END:
        line = file.readline(_LONGEST_LINE)
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length" and value.strip().isdigit():
            length = int(value)
    if line != _END or length is None:
        return None
    file.seek(length, 1)
    return file.tell() if file.read(2 * len(_END)) == 2 * _END else None


def _end_of_member(file: BinaryIO) -> int | None:
    member = zlib.decompressobj(zlib.MAX_WBITS | 16)
    piece, beginning = file.read(_PIECE), b""
    while piece:
        try:
            found = member.decompress(piece, _PIECE)
        except zlib.error:
            return None
        beginning = beginning or found
        if member.eof:
            is_record = beginning.startswith(_BEGINNING)
            return file.tell() - len(member.unused_data) if is_record else None
        # At the end of the file as well: the last bytes of a member are no longer output.
        piece = member.unconsumed_tail or file.read(_PIECE)
    return None
