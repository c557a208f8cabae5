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
