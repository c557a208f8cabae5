"""Errors that a person can mend, in one line."""

import os

from twisted.internet.error import CannotListenError
from twisted.python.usage import UsageError

from evserve.plugin import one_line


# OverflowError is what a socket says to a port above 65535.
MENDABLE = (OSError, CannotListenError, UsageError, ValueError, OverflowError)


def explain(error: BaseException) -> str:
    """Say in one line what went wrong, without the name of the exception where a person erred."""
    if isinstance(error, CannotListenError):
        return f"cannot listen on {_where(error)}: {_reason(error.socketError)}"
    if isinstance(error, OSError) and error.strerror:
        # Of two names, the second is what was to be made: the lock beside a UNIX socket.
        name = error.filename2 or error.filename
        return f"{error.strerror}: {os.fsdecode(name)}" if name else error.strerror
    text = " ".join(str(error).split())
    return text if text and isinstance(error, MENDABLE) else one_line(error)


def _where(error: CannotListenError) -> str:
    if isinstance(error.port, bytes):  # the path of a UNIX socket
        return os.fsdecode(error.port)
    host = error.interface or "*"
    return f"[{host}]:{error.port}" if ":" in host else f"{host}:{error.port}"


def _reason(error: object) -> str:
    return getattr(error, "strerror", None) or str(error)
