"""Where a run writes that saves to a folder which another run has claimed: a folder in there.

It is claimed as long as its run lives, whatever ends that, so who comes later can tell what
nobody needs any more. The number of a process could not say it: each machine counts its own.
"""

import os
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp

from evserve.fetch.sinks.opening import claim


_PREFIX = ".parts-"  # no host's name begins like this


def make_apart(folder: Path) -> Path:
    """Make a folder in `folder` and claim it until this process ends; raises OSError."""
    while True:
        made = Path(mkdtemp(prefix=_PREFIX, dir=folder))
        with suppress(FileNotFoundError):
            descriptor = os.open(made, os.O_RDONLY)
            if claim(descriptor) and made.exists():
                return made
            os.close(descriptor)  # somebody took it for left behind before it was claimed


def remove_apart(made: Path) -> None:
    """Remove what `make_apart` made, which is empty when a run ends in good order."""
    with suppress(OSError):
        made.rmdir()


def remove_left_behind(folder: Path) -> None:
    """Remove what runs that were killed have left in `folder`, as far as that is possible."""
    with suppress(OSError):
        for left in [each for each in folder.iterdir() if each.name.startswith(_PREFIX)]:
            with suppress(OSError):
                _remove_if_unclaimed(left)


def _remove_if_unclaimed(left: Path) -> None:
    descriptor = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if claim(descriptor):
            for part in left.iterdir():
                part.unlink()
            left.rmdir()
    finally:
        os.close(descriptor)
