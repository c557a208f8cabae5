"""Streams that results and progress are written to."""

import errno
import io
import os


class Terminal(io.StringIO):
    """A terminal."""

    def isatty(self):
        return True


class FullDisk(io.StringIO):
    """A file on a disk without free space."""

    def flush(self):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
