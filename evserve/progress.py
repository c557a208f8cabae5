"""A progress bar on a terminal, shared by all commands that have one."""

from typing import Any, TextIO

from attrs import define, field


_ERASE = "\r\x1b[2K"  # clear the line of the bar


@define(eq=False)
class Bar:
    """A progress bar with counts, a note and the elapsed time; creating one imports `rich`.

    It is drawn by `update` only: a thread of its own would disturb measurements.
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
        """Redraw the bar; total: None while it is unknown."""
        if not self._progress.live.is_started:
            self._progress.start()
        self._progress.update(self._task, completed=done, total=total, note=note)
        self._progress.refresh()
        # Other writers to this terminal, such as the log, start at the beginning of the line.
        self._stream.write("\r")
        self._stream.flush()

    def erase(self) -> None:
        """Clear the line of the bar for other output to the same terminal."""
        if self._progress.live.is_started:
            self._stream.write(_ERASE)
            self._stream.flush()

    def stop(self) -> None:
        """Remove the bar."""
        self._progress.stop()
