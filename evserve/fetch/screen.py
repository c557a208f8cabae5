"""What a person sees: a line for each URL, a bar that moves, a summary at the end."""

from collections.abc import Iterable
from typing import Any, BinaryIO, TextIO

from attrs import define, field

from evserve.fetch.result import Result


_ERASE = "\r\x1b[2K"


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
class Bar:
    """A progress bar on a terminal; `rich` is imported for one, and not without."""

    _stream: TextIO
    _progress: Any = field(init=False)
    _task: Any = field(init=False)

    def __attrs_post_init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeElapsedColumn as Elapsed

        self._progress = Progress(
            TextColumn("fetching"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            Elapsed(),
            console=Console(file=self._stream),
            auto_refresh=False,  # the reactor's clock does that; threads need not
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._progress.add_task("", total=None, note="")

    def update(self, done: int, total: int | None, note: str) -> None:
        """Draw it anew; total: None while nobody knows."""
        if not self._progress.live.is_started:
            self._progress.start()
        self._progress.update(self._task, completed=done, total=total, note=note)
        self._progress.refresh()
        # Whatever else writes to this terminal, the log for one, begins at the line's beginning.
        self._stream.write("\r")
        self._stream.flush()

    def erase(self) -> None:
        """Make room for a line of something else on the same terminal."""
        if self._progress.live.is_started:
            self._stream.write(_ERASE)
            self._stream.flush()

    def stop(self) -> None:
        """Take it away."""
        self._progress.stop()


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
        self._out.write(text.encode(errors="backslashreplace"))
        self._out.flush()

    def move(self, done: int, total: int | None, note: str) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(done, total, note)

    def stop(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
