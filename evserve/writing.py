"""What a command was asked for goes to standard output and to files, and may not fit there."""

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TextIO


STDOUT, STDERR = "standard output", "standard error"


class UnwritableError(Exception):
    """Something cannot be written; the text says what, and why."""


@contextlib.contextmanager
def writing(name: str | Path) -> Iterator[None]:
    """Turn an OSError into an UnwritableError with a name: those of `write` have none."""
    try:
        yield
    except OSError as error:
        raise UnwritableError(f"{name}: {error.strerror or error}") from error


def print_to(stream: TextIO | None, text: str, name: str | Path = STDOUT) -> None:
    """Write to a stream at once; raises UnwritableError.

    A standard stream is None if it was closed when the process began.
    """
    with writing(name):
        if stream is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        stream.write(text)
        stream.flush()


def write_all(steps: Iterable[Callable[[], object]]) -> None:
    """Take every step; then raise the UnwritableError of the first that failed."""
    first: UnwritableError | None = None
    for step in steps:
        try:
            step()
        except UnwritableError as error:
            first = first or error
    if first is not None:
        raise first
