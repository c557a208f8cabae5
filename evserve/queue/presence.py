"""Whether a store is still where it was opened.

A file that was deleted, moved or replaced under a running server takes everything that is written
to it, and all of it is gone when the server ends: nothing may be acknowledged any more.
"""

from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Final

from attrs import define, field


# Seconds between looks: a commit takes a tenth of a millisecond, and should go on doing so.
_EVERY: Final = 1.0


@define(eq=False, repr=False)
class Presence:
    """Remembers which file is at `path`. now: the time in seconds, from any start."""

    path: Path
    now: Callable[[], float] = monotonic
    _file: tuple[int, int] | None = field(default=None, init=False)
    _looked: float = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._file, self._looked = self._found(), self.now()

    def _found(self) -> tuple[int, int] | None:
        try:
            about = self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:  # it cannot be seen now, which says nothing
            return self._file
        return about.st_dev, about.st_ino

    def is_lost(self) -> bool:
        """Look, if the last look was a while ago; True if another file is there, or none."""
        now = self.now()
        if now - self._looked < _EVERY:
            return False
        if self._found() != self._file:
            return True
        self._looked = now
        return False
