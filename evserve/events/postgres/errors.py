"""From what Postgres says to a QueueError in one line, without a password.

The classes of SQLSTATE are in Postgres's manual, appendix A.
"""

from typing import Final

from psycopg import Error
from psycopg.pq import DiagnosticField
from psycopg.pq.abc import PGresult

from evserve.events.errors import BadEvent, QueueError, QueueFull, QueueUnavailable


READ_ONLY: Final = "25006"
"""The server is a standby: after a failover the connection leads to the wrong one."""

UNREPLICATED: Final = b"SyncRepWaitForLSN"
"""The function of Postgres that warns of a commit which is on fewer disks than was asked for.

Its wait for a standby was cancelled. The text is in the server's language.
"""

_FULL: Final = "53"  # disk, memory or connections; also what `put` says when the queue drains
_LOCKED: Final = ("55P03", "40P01")  # a lock that took too long; a deadlock
_BAD_DATA: Final = ("22", "54")


class UnusableError(QueueUnavailable):
    """The database cannot be used until a person has done something: waiting does not help."""


def statement_error(result: PGresult) -> QueueError:
    """Return why a statement failed."""
    message = result.error_field(DiagnosticField.MESSAGE_PRIMARY) or b"no reason given"
    return _error(sqlstate(result), message)


def driver_error(error: Error) -> QueueError:
    """Return the same for an exception of psycopg."""
    return _error(error.sqlstate or "", (error.diag.message_primary or str(error)).encode())


def _error(state: str, text: bytes) -> QueueError:
    message = one_line(text)
    if state.startswith(_FULL):
        return QueueFull(message)
    if state.startswith(_BAD_DATA):
        return BadEvent(message)
    if state in _LOCKED:
        return QueueUnavailable("nothing was done, because another transaction has a lock on it")
    return QueueUnavailable(f"Postgres: {message}")


def sqlstate(result: PGresult) -> str:
    """Return the five characters that name the error; empty when libpq itself made it."""
    return (result.error_field(DiagnosticField.SQLSTATE) or b"").decode()


def one_line(message: bytes) -> str:
    """Return what libpq says in one line that can be shown."""
    text = " ".join(message.decode(errors="replace").split())
    return "".join(each if each.isprintable() else "?" for each in text)
