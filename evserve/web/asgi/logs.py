"""uvicorn's log in evserve's: its messages as they come, the access log many lines at a time."""

import asyncio
import logging
from functools import partial
from typing import Any

from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from typing_extensions import override

from evserve.plugin import printable
from evserve.web.log_lines import LineBuffer, publish_lines


_INVALID_TEXT = "Invalid UTF-8 sequence received from client."

_log = Logger()


class UvicornHandler(logging.Handler):
    """Passes what uvicorn logs to Twisted's log."""

    _levels = (
        (logging.CRITICAL, LogLevel.critical),
        (logging.ERROR, LogLevel.error),
        (logging.WARNING, LogLevel.warn),
        (logging.INFO, LogLevel.info),
    )

    @override
    def emit(self, record: logging.LogRecord) -> None:
        found = (level for least, level in self._levels if record.levelno >= least)
        level = next(found, LogLevel.debug)
        event: dict[str, Any] = {"text": record.getMessage().rstrip()}
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, asyncio.CancelledError) and _is_cancelled():
            event["text"] += " (cancelled)"
        elif record.msg == _INVALID_TEXT:
            level = LogLevel.warn  # a client's fault, of which a traceback says nothing
        elif error is not None:
            event["log_failure"] = Failure(error, type(error), error.__traceback__)
        _log.emit(level, "uvicorn: {text}", **event)


def _is_cancelled() -> bool:
    """Whether this task was cancelled from outside, as the last requests are."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


_handler = UvicornHandler()


def connect_loggers() -> None:
    """Have uvicorn's messages end in Twisted's log."""
    logger = logging.getLogger("uvicorn")
    logger.addHandler(_handler)
    logger.propagate = False


class AccessLog:
    """Stands for uvicorn's access logger, of which it calls `info`."""

    def __init__(self, reactor: Any) -> None:
        self._lines = LineBuffer(reactor, partial(publish_lines, _log, LogLevel.info))
        self.stop = self._lines.stop

    def info(self, form: str, *values: Any) -> None:
        """Add the line of a request."""
        client, method, path, version, status = values
        line = f'{client or "-"} "{method} {path} HTTP/{version}" {status}'
        if not line.isprintable():  # the client may be what a proxy said
            line = printable(line)
        self._lines.add(line)
