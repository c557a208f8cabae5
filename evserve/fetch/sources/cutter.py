"""Text that arrives in pieces, cut into lines, and what of these is a URL."""

import codecs
from collections.abc import Iterable, Iterator

from attrs import define, field

from evserve.http.url import MAX_LENGTH


# Lines that are too long are cut, just so that they still are too long for a URL: such a line is
# one error, and neither many URLs nor a part of one. Bytes that are not UTF-8 stay what they are.
TOO_LONG = MAX_LENGTH + 1
ENCODING = "utf-8", "surrogateescape"
MARK = codecs.BOM_UTF8  # what some editors begin a file with


def urls_in(lines: Iterable[str]) -> Iterator[str]:
    """Yield what is not blank and no comment."""
    for line in lines:
        text = line.strip()
        if text and not text.startswith("#"):
            yield text


@define(eq=False)
class Cutter:
    """Cuts lines from bytes; they may end as on any system, since blank ones do not count."""

    _rest: bytes = field(default=b"", init=False)
    _is_first: bool = field(default=True, init=False)

    def feed(self, data: bytes) -> list[str]:
        """Return the URLs of the lines that `data` completes."""
        *lines, rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        if self._is_first and lines:
            lines[0] = lines[0].removeprefix(MARK)
            self._is_first = False
        self._rest = rest[: 4 * TOO_LONG]  # a character has four bytes at most
        return list(urls_in(line.decode(*ENCODING)[:TOO_LONG] for line in lines))

    def finish(self) -> list[str]:
        """Return the URL of the last line, which needs no end."""
        return self.feed(b"\n")
