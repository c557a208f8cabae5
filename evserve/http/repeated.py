"""A Content-Length that is said twice (RFC 9110, section 8.6), which llhttp refuses.

Some servers and what stands before them say it both. As long as they agree it may be read as one,
and curl and browsers do. Here it is only taken out of the head, which llhttp then reads anew: what
else it refuses, such as a Transfer-Encoding beside it, it refuses still.
"""

import re

from attrs import define, field

from evserve.http.errors import BadResponse


DOUBTS = "Duplicate Content-Length", "Invalid character in Content-Length"  # llhttp's words
_END = re.compile(rb"\n\r?\n")
_OVERLAP = 2  # bytes: so much of an end may have come before
_LENGTH = re.compile(rb"content-length[ \t]*:", re.IGNORECASE)
_AGREEING = re.compile(
    rb"content-length:[ \t]*([0-9]+)(?:[ \t]*,[ \t]*\1)*[ \t]*\r?", re.IGNORECASE
)
_FOLDED = b" ", b"\t"  # how a line begins that belongs to the one before it


@define(eq=False)
class DoubtfulHead:
    """What there is of a response's head; `doubt`: what llhttp says about its lengths."""

    pieces: list[bytes]
    doubt: Exception
    _data: bytearray = field(factory=bytearray, init=False)  # the pieces that were searched

    def mended(self) -> bytes | None:
        """Return all of it with one length; None if its end is not there yet.

        Raises BadResponse if the lengths differ.
        """
        searched = max(0, len(self._data) - _OVERLAP)
        self._data += b"".join(self.pieces)
        self.pieces.clear()
        end = _END.search(self._data, searched)
        if end is None:
            return None
        head = said_once(bytes(self._data[: end.end()]))
        if head is None:
            raise BadResponse(f"not HTTP as it should be: {self.doubt}")
        return head + bytes(self._data[end.end() :])


def said_once(head: bytes) -> bytes | None:
    """Return `head` with equal lengths said once; None if they differ or are no numbers."""
    kept: list[bytes] = []
    length = None
    lines = head.split(b"\n")
    for line, following in zip(lines, [*lines[1:], b""], strict=True):
        if not _LENGTH.match(line):
            kept.append(line)
            continue
        match = _AGREEING.fullmatch(line)
        if match is None or length not in (None, match[1]) or following.startswith(_FOLDED):
            return None
        if length is None:
            length = match[1]
            kept.append(b"Content-Length: %b\r" % length)
    return b"\n".join(kept)
