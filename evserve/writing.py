"""Writing results to standard output and files, with one-line errors."""

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TextIO


STDOUT, STDERR = "standard output", "standard error"


class UnwritableError(Exception):
    """A stream or file cannot be written; the message is its name and the cause."""


@contextlib.contextmanager
def writing(name: str | Path) -> Iterator[None]:
    """Turn an OSError into an UnwritableError; that of `write` does not name the file."""
    try:
        yield
    except OSError as error:
        raise UnwritableError(f"{name}: {error.strerror or error}") from error


def print_to(stream: TextIO | None, text: str, name: str | Path = STDOUT) -> None:
    """Write and flush; raises UnwritableError.

    A standard stream is None if it was closed when the process started.
    """
    with writing(name):
        if stream is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        stream.write(text)
        stream.flush()


def write_all(steps: Iterable[Callable[[], object]]) -> None:
    """Call every step; then raise the first UnwritableError, if any."""
    first: UnwritableError | None = None
    for step in steps:
        try:
            step()
        except UnwritableError as error:
            first = first or error
    if first is not None:
        raise first
