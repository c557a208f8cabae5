"""One line of progress on a terminal, and nothing anywhere else."""

from typing import TextIO

from attrs import define, field


@define(eq=False)
class Terminal:
    """Shows the last thing it was told, in place of what it showed before."""

    _stream: TextIO
    _shown: int = field(default=0, init=False)  # characters

    def tell(self, line: str) -> None:
        """Show `line` if a person is looking."""
        if self._stream.isatty():
            self._stream.write(f"\r{line.ljust(self._shown)}")
            self._stream.flush()
            self._shown = len(line)

    def clear(self) -> None:
        """Take the line away before something else is written."""
        if self._shown:
            self._stream.write(f"\r{' ' * self._shown}\r")
            self._stream.flush()
            self._shown = 0
