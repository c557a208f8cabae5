"""Opening what is written to: nobody else is writing to it, and nobody waits without a word."""

import errno
import fcntl
import os
import stat
import sys
from pathlib import Path
from typing import BinaryIO


_UNCLAIMED = (errno.EWOULDBLOCK, errno.EACCES)


def open_stream(path: Path) -> BinaryIO:
    """Open what may be a file, a pipe or a device, unbuffered, to be written to.

    A file is claimed, and is left as it is; a pipe is waited for until it has a reader, and
    standard error says so. Raises OSError.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno != errno.ENXIO or not stat.S_ISFIFO(path.stat().st_mode):
            raise
        descriptor = _open_when_read(path)
    out = os.fdopen(descriptor, "wb", buffering=0)
    os.set_blocking(descriptor, True)
    if is_file(descriptor):
        _claim_or_close(out, path)
    return out


def open_file(path: Path) -> BinaryIO:
    """Open or make a file, unbuffered, to be read and written, and claim it; raises OSError."""
    # A pipe must not be waited for.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o666)
    file = os.fdopen(descriptor, "r+b", buffering=0) if is_file(descriptor) else None
    if file is None:
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it must be a file", str(path))
    _claim_or_close(file, path)
    return file


def claim(descriptor: int) -> bool:
    """Keep a file or folder for as long as it is open; False if another process has it.

    File systems that know nothing of the kind give it to everybody.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _UNCLAIMED
    return True


def claim_folder(folder: Path) -> bool:
    """Claim a folder until this process ends; False if another has it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # to write to, but not to look into
        return True
    if claim(descriptor):
        return True  # and stays open
    os.close(descriptor)
    return False


def is_file(descriptor: int) -> bool:
    """Whether it is a regular file, no pipe, terminal or other device."""
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


def _claim_or_close(file: BinaryIO, path: Path) -> None:
    if not claim(file.fileno()):
        file.close()
        raise OSError(errno.EWOULDBLOCK, "already being written to", str(path))


def _open_when_read(path: Path) -> int:
    try:
        if sys.stderr is not None:
            sys.stderr.write(f"evserve: {path}: waiting for a reader of this pipe\n")
            sys.stderr.flush()
        return os.open(path, os.O_WRONLY)
    except KeyboardInterrupt:
        raise SystemExit(1) from None
