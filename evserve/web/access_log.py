"""The access log of a site, written many lines at a time.

`twisted.web` writes each line on its own: to a file that has no buffer, or as a log event that
each observer formats. `gather_log` has a site keep its lines for at most DELAY seconds. What is
written stays the same: the lines, their order and the time of each.
"""

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.logger import LoggingFile, LogPublisher
from twisted.web.http import HTTPFactory, Request, _escape, combinedLogFormatter

from evserve.web.log_lines import LineBuffer, Row, publish_lines, write_lines


class _Escaped(dict[Any, str]):
    """Maps bytes, or text, to what the log shows of them; has less than a megabyte."""

    def __missing__(self, value: Any) -> str:
        text: str = _escape(value)
        if len(value) <= 256:  # noqa: PLR2004 - see the docstring
            if len(self) >= 1024:  # noqa: PLR2004 - as above
                self.clear()
            self[value] = text
        return text


_escaped = _Escaped()


def combined_line(timestamp: str, request: Any) -> str:
    """Return what `combinedLogFormatter` returns, in a tenth of the time.

    request: one that has the methods of `twisted.web.http.Request`.
    """
    headers = request.requestHeaders._rawHeaders  # noqa: SLF001 - getHeader takes a microsecond
    referrer = headers.get(b"Referer")
    agent = headers.get(b"User-Agent")
    client = request.client
    is_ip = isinstance(client, (IPv4Address, IPv6Address))
    return (
        f'"{_escaped[client.host] if is_ip else "-"}" - - {timestamp} '
        f'"{_escaped[request.method]} {_escaped[request.uri]} {_escaped[request.clientproto]}" '
        f"{request.code} {request.sentLength or '-'} "
        f'"{_escaped[referrer[-1] or b"-"] if referrer else "-"}" '
        f'"{_escaped[agent[-1] or b"-"] if agent else "-"}"'
    )


def _is_plain(cls: Any) -> bool:
    """Return whether `combined_line` may read what methods of a class of requests return."""
    return (
        getattr(cls, "getHeader", None) is Request.getHeader
        and cls.getClientAddress is Request.getClientAddress
    )


def gather_log(factory: HTTPFactory) -> None:
    """Have `factory` write its access log many lines at a time, unless its `log` is its own."""
    if type(factory).log is HTTPFactory.log and "log" not in vars(factory):
        AccessLog(factory)


class AccessLog:
    """Stands for the `log` method of a factory, and writes what waits when the factory stops."""

    def __init__(self, factory: HTTPFactory) -> None:
        self._factory: Any = factory
        self._stop_factory = factory.stopFactory
        vars(factory).update(log=self.log, stopFactory=self._stop)
        self._file: Any = None  # the one that the lines are for
        self._lines = LineBuffer(factory.reactor, self._write)

    def log(self, request: Any) -> None:
        """Add the line of a request."""
        factory = self._factory
        file = factory._logFile  # noqa: SLF001 - the property raises if there is none
        if file is not self._file:
            self._lines.flush()
            self._file = file if factory.numPorts else None
        if self._file is None:  # nothing stops a factory that is not started
            HTTPFactory.log(factory, request)
            return
        formatter = factory._logFormatter  # noqa: SLF001 - only the factory knows it
        if formatter is combinedLogFormatter and _is_plain(type(request)):
            line = combined_line(factory._logDateTime, request)  # noqa: SLF001 - as above
        else:
            line = formatter(factory._logDateTime, request) + ""  # noqa: SLF001 - as above
        self._lines.add(line)

    def _write(self, rows: list[Row]) -> None:
        publisher = _publisher(self._file)
        if publisher is None:
            write_lines(self._file, [line for _, line in rows])
        else:
            publish_lines(self._file.log, self._file.level, rows)

    def _stop(self) -> None:
        self._lines.stop()
        self._file = None
        self._stop_factory()


def _publisher(file: Any) -> LogPublisher | None:
    """Return the publisher of the log events that a file makes of lines; None if it makes none."""
    if type(file) is not LoggingFile or file.closed or file._buffer:  # noqa: SLF001 - half a line
        return None
    publisher = file.log.observer
    return publisher if type(publisher) is LogPublisher else None
