"""What a person sees: a line for each URL, a bar that moves, a summary at the end."""

from collections.abc import Iterable
from typing import Any, BinaryIO

from attrs import define

from evserve.fetch.result import Result
from evserve.progress import Bar


def line_of(result: Result) -> str:
    """Return what is said about a URL: how many bytes it gave, and its status."""
    if result.status_code is None or (result.error and not result.error.startswith("BadStatus")):
        return f"{result.url} failed: {result.error}"
    return f"{result.url} {result.content_length} bytes received, status {result.status_code}"


def _harmless(line: str) -> str:
    """Return a line without what a terminal would obey: URLs come from anybody."""
    if line.isprintable():
        return line
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in line)


@define(eq=False)
class Screen:
    """Lines on standard output; a bar if standard error is a terminal.

    out: unbuffered bytes.  lines: whether there is a line for each URL, which JSON on standard
    output would not bear.
    """

    _out: BinaryIO | Any
    _bar: Bar | None = None
    _lines: bool = True

    def show(self, results: Iterable[Result]) -> None:
        """Print a line for each URL; raises OSError if nobody reads on."""
        if self._lines:
            self.say([_harmless(line_of(result)) for result in results])

    def say(self, lines: Iterable[str]) -> None:
        """Print lines."""
        if self._bar is not None:
            self._bar.erase()
        text = "".join(f"{line}\n" for line in lines)
        try:
            self._out.write(text.encode(errors="backslashreplace"))
            self._out.flush()
        except OSError as error:
            error.filename = "standard output"
            raise

    def move(self, done: int, total: int | None, note: str) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(done, total, note)

    def stop(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
