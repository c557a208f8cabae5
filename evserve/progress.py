"""A progress bar on a terminal, the same for every command that has one."""

from typing import Any, TextIO

from attrs import define, field


_ERASE = "\r\x1b[2K"  # what a bar left on its line


@define(eq=False)
class Bar:
    """A bar with what it counts, a note and the time; `rich` is imported for one, not without.

    It moves when it is told to: a thread that draws would take time from what is measured.
    """

    _stream: TextIO
    _label: str = ""
    _progress: Any = field(init=False)
    _task: Any = field(init=False)

    def __attrs_post_init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeElapsedColumn as Elapsed

        self._progress = Progress(
            *([TextColumn(self._label)] if self._label else []),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            Elapsed(),
            console=Console(file=self._stream),
            auto_refresh=False,
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
