"""Bytes from a beanstalkd server, in any pieces, to replies. Nothing here knows a network."""

from typing import Final

from attrs import define, field, frozen


_WITH_BODY: Final = {b"RESERVED": 3, b"FOUND": 3, b"OK": 2}
"""The replies that a body follows, and how many words their line has; the last is its size."""

_MAX_LINE: Final = 512
"""Longer than any reply's line: a tube's name has 200 bytes at most."""


class MalformedReply(Exception):  # noqa: N818 - it says what happened, as Twisted's errors do
    """What came is not the beanstalkd protocol; the connection cannot be used any more."""


@frozen
class Reply:
    """One reply: the first word of its line, the others, and the body where there is one."""

    word: bytes
    arguments: tuple[bytes, ...] = ()
    body: bytes = b""


@define(eq=False)
class ReplyParser:
    """Collects bytes until they make replies."""

    _buffer: bytearray = field(init=False, factory=bytearray)

    def feed(self, data: bytes) -> list[Reply]:
        """Return the replies that `data` completes, in order; raises MalformedReply."""
        buffer = self._buffer
        buffer += data
        replies: list[Reply] = []
        start = 0
        while (end := self._line_end(start)) >= 0:
            words = bytes(buffer[start:end]).split(b" ")
            size = _body_size(words)
            if size is None:
                replies.append(Reply(words[0], tuple(words[1:])))
                start = end + 2
                continue
            body_end = end + 2 + size
            if len(buffer) < body_end + 2:
                break
            if buffer[body_end : body_end + 2] != b"\r\n":
                raise MalformedReply(f"no line end after a body of {size} bytes")
            replies.append(Reply(words[0], tuple(words[1:-1]), bytes(buffer[end + 2 : body_end])))
            start = body_end + 2
        del buffer[:start]
        return replies

    def _line_end(self, start: int) -> int:
        end = self._buffer.find(b"\r\n", start, start + _MAX_LINE)
        if end < 0 and len(self._buffer) - start >= _MAX_LINE:
            raise MalformedReply(f"a line of more than {_MAX_LINE} bytes")
        return end


def _body_size(words: list[bytes]) -> int | None:
    count = _WITH_BODY.get(words[0])
    if count is None:
        return None
    if len(words) != count or not words[-1].isdigit():
        raise MalformedReply(f"{b' '.join(words)!r} does not say how long its body is")
    return int(words[-1])
