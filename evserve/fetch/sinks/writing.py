"""Writing everything: a file without a buffer may take less than it is given."""

from typing import Protocol


class Stream(Protocol):
    """What is written to, unbuffered: it survives this process as soon as it is written."""

    def write(self, data: bytes | memoryview, /) -> int | None:
        """Take some of it; return how many bytes."""


def write_all(out: Stream, data: bytes, name: str) -> None:
    """Write; raises OSError with `name` as its file name.

    In one call, if the disk takes it all, so that it is there or not whenever this process is
    killed. A disk that takes a part says why when it is offered the rest.
    """
    try:
        written = out.write(data) or 0
        if written != len(data):
            view = memoryview(data)[written:]
            while view:
                view = view[out.write(view) or 0 :]
    except OSError as error:
        error.filename = name
        raise
