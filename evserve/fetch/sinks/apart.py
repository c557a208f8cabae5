"""Where a run writes that saves to a folder which another run has claimed: a folder in there.

It is claimed as long as its run lives, whatever ends that, so who comes later can tell what
nobody needs any more. The number of a process could not say it: each machine counts its own.
"""

import os
import re
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp

from evserve.fetch.sinks.opening import claim


_PREFIX = ".evserve-parts-"  # no host's name begins like this
_PART = re.compile(r"\.part(\.[0-9]+)?\Z")  # see FileStore


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
        top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for name in [each for each in os.listdir(top) if each.startswith(_PREFIX)]:  # noqa: PTH208 - by its descriptor
                with suppress(OSError):
                    _remove_if_unclaimed(name, top)
        finally:
            os.close(top)


# By descriptors throughout: a path may lead elsewhere by the time it is used.
def _remove_if_unclaimed(name: str, top: int) -> None:
    left = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
    try:
        if os.fstat(left).st_uid == os.geteuid() and claim(left):
            for part in filter(_PART.search, os.listdir(left)):  # noqa: PTH208 - by its descriptor
                os.unlink(part, dir_fd=left)
            os.rmdir(name, dir_fd=top)
    finally:
        os.close(left)
