"""Why a URL failed although the HTTP client did its part, or was not asked at all.

The class names are in rows and summaries, next to those of `evserve.http.errors`.
"""

# ruff: noqa: N818 - as in `evserve.http.errors`, the name states what happened

import os
from http import HTTPStatus

from twisted.internet.defer import FirstError

from evserve.http.errors import FetchError, ProxyFailed


class BadStatus(FetchError):
    """The server answered with a status of 400 or above."""


class RobotsDenied(FetchError):
    """The origin's robots.txt disallows this URL."""


class RobotsUnavailable(FetchError):
    """The origin could not deliver its robots.txt, which disallows everything (RFC 9309)."""


class OriginDown(FetchError):
    """The origin failed so often in a row that it gets no requests for a while."""


class ProxyDown(ProxyFailed):
    """The proxy failed so often in a row that it gets no requests for a while."""


class SaveFailed(FetchError):
    """The response could not be written to disk."""


class SitemapFailed(FetchError):
    """The response is not a sitemap, or only the beginning of one."""


class InvalidJSON(FetchError, ValueError):
    """The body of a result is not JSON."""


def error_text(error: Exception) -> str:
    """Return `Name: what happened` on one line, as rows show an error."""
    text = " ".join(str(error).split())
    name = type(error).__name__
    return f"{name}: {text}" if text else name


def forget_frames(error: Exception) -> None:
    """Drop the tracebacks of an error that others keep: their frames hold parts of the body."""
    each: BaseException | None = error
    while each is not None:
        each.__traceback__ = None
        each = each.__cause__ or each.__context__


def status_error(status: int) -> BadStatus:
    """Return the error for an unsuccessful response, such as `404 Not Found`."""
    try:
        return BadStatus(f"{status} {HTTPStatus(status).phrase}")
    except ValueError:
        return BadStatus(str(status))


def sink_error(error: BaseException | None) -> FetchError:
    """Return the error for what a sink raised, or what its Deferred failed with."""
    if isinstance(error, FirstError):  # of gatherResults, for several sinks
        return sink_error(error.subFailure.value)
    if isinstance(error, FetchError):
        return error
    if not isinstance(error, OSError) or not error.strerror:
        return SaveFailed(str(error))
    # An error of a rename has two names; the second is the file that should exist.
    name = error.filename2 or error.filename
    return SaveFailed(f"{error.strerror}: {os.fsdecode(name)}" if name else error.strerror)
