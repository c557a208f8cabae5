"""Why a URL failed although the engine did what it could, or was not even asked."""

# ruff: noqa: N818 - as in `errors`, the name says what happened and goes into the row.

import os
from http import HTTPStatus

from twisted.internet.defer import FirstError

from evserve.http.errors import FetchError, ProxyFailed


class BadStatus(FetchError):
    """The server answered with a status of 400 or above."""


class RobotsDenied(FetchError):
    """The origin's robots.txt asks us to leave this URL alone."""


class RobotsUnavailable(FetchError):
    """The origin cannot say what its robots.txt allows; RFC 9309 takes that for a no."""


class OriginDown(FetchError):
    """The origin failed so often in a row that it is left in peace for a while."""


class ProxyDown(ProxyFailed):
    """The same of a proxy, and of all that would be asked for through it."""


class SaveFailed(FetchError):
    """The body could not be written to disk."""


def bad_status(status: int) -> BadStatus:
    """Return the error for a response that is no success: `404 Not Found`."""
    try:
        return BadStatus(f"{status} {HTTPStatus(status).phrase}")
    except ValueError:
        return BadStatus(str(status))


def not_saved(error: BaseException | None) -> FetchError:
    """Return the error for what a store raised, or failed with later."""
    if isinstance(error, FirstError):  # of several stores
        return not_saved(error.subFailure.value)
    if isinstance(error, FetchError):
        return error
    if not isinstance(error, OSError) or not error.strerror:
        return SaveFailed(str(error))
    # Of two names, the second is what was to be made.
    name = error.filename2 or error.filename
    return SaveFailed(f"{error.strerror}: {os.fsdecode(name)}" if name else error.strerror)
