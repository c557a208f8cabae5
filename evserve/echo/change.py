r"""What `--transform` and `--suffix` mean, byte for byte and wherever TCP cuts the stream.

TCP keeps no message boundaries: a chunk is an accident of timing, so nothing here looks at one.
`upper` maps the ASCII letters a-z and leaves every other byte alone (UTF-8 stays UTF-8). The
suffix goes to the end of each line, before its `\n` or `\r\n`, and to the end of the stream if
its last line has no end: with `!`, `hello\nbye` gives `hello!\nbye!`. A datagram is a stream of
its own. The suffix itself is never transformed. One consequence: with a suffix, a `\r` at the
end of a chunk waits for the byte after it, which says whether a line ends there.
"""

import re

from attrs import define, frozen


_LINE_END = re.compile(rb"\r?\n")


@frozen
class Change:
    """What is done to the bytes on their way back: `upper` first, then `suffix` on each line."""

    upper: bool = False
    suffix: bytes = b""

    @property
    def is_none(self) -> bool:
        """Whether bytes go back untouched, so that nobody need look at them."""
        return not (self.upper or self.suffix)

    def stream(self) -> "ChangedStream":
        """Return a fresh state for one stream."""
        return ChangedStream(self)

    def whole(self, message: bytes) -> bytes:
        """Change a message that is complete in itself: a datagram."""
        stream = self.stream()
        return stream.feed(message) + stream.end()


@define(eq=False)
class ChangedStream:
    """One stream being changed; the output depends on the bytes fed, not on their chunks."""

    _change: Change
    _carriage_return: bytes = b""
    _line_is_open: bool = False

    def feed(self, data: bytes) -> bytes:
        """Return what can be sent of `data`, changed."""
        if self._change.upper:
            data = data.upper()
        return self._with_suffix(data) if self._change.suffix else data

    def end(self) -> bytes:
        """Return what is still to be sent when the stream ends here."""
        suffix = self._change.suffix if self._carriage_return or self._line_is_open else b""
        last = self._carriage_return + suffix
        self._carriage_return, self._line_is_open = b"", False
        return last

    def _with_suffix(self, data: bytes) -> bytes:
        data = self._carriage_return + data
        self._carriage_return = b"\r" if data.endswith(b"\r") else b""
        data = data.removesuffix(self._carriage_return)
        if data:
            self._line_is_open = not data.endswith(b"\n")
        # A template, unlike a function, keeps the loop over the lines in C.
        template = self._change.suffix.replace(b"\\", rb"\\") + rb"\g<0>"
        return _LINE_END.sub(template, data)
