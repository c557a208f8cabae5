"""Connection: libpq in pipeline mode, driven by the reactor.

libpq speaks the protocol, TLS and authentication; the reactor waits for its socket. So it works
on every reactor that has `addReader`, without a thread.
"""

import os
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol, TypeVar

from psycopg import OperationalError
from psycopg.pq import DiagnosticField, ExecStatus
from psycopg.pq.abc import PGconn, PGresult
from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from evserve.events.errors import QueueError, QueueUnavailable
from evserve.events.postgres.errors import UNREPLICATED, one_line
from evserve.events.postgres.values import Rows


ErrorT = TypeVar("ErrorT", bound=QueueError)

_SYNC: Final = ExecStatus.PIPELINE_SYNC
_DONE: Final = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)
_ABORTED: Final = ExecStatus.PIPELINE_ABORTED
_FATAL: Final = (b"FATAL", b"PANIC")
_FORMATS: Final = [[1] * count for count in range(16)]


class Statement:
    """A statement that a connection prepares when it is first used.

    Its parameters are binary, of the types that its text casts them to.  oids: the types of its
    columns.
    """

    __slots__ = ("name", "rows", "sql")

    def __init__(self, name: str, sql: str, *oids: int) -> None:
        self.name = name.encode()
        self.sql = sql.encode()
        self.rows = Rows(*oids)


Query = tuple[Statement, Sequence[bytes | None]]


class Receiver(Protocol):
    """Is told what became of the queries that one `send` sent, which are one transaction."""

    def done(self, results: list[PGresult]) -> None:
        """Take the results, one for each query; they are committed."""

    def refused(self, result: PGresult) -> None:
        """Take the error of a query or of the commit; nothing was done."""

    def lost(self, error: QueueError) -> None:
        """Learn that the connection was lost, so that the outcome is unknown."""


class _Sent:
    """What one `send` sent.

    preparing: for each result to come, the statement if it is that of a preparation.
    """

    __slots__ = ("at", "error", "preparing", "receiver", "results")

    def __init__(self, receiver: Receiver, at: float) -> None:
        self.receiver = receiver
        self.at = at
        self.preparing: deque[Statement | None] = deque()
        self.results: list[PGresult] = []
        self.error: PGresult | None = None


@implementer(IReadWriteDescriptor)
class Connection:
    """One connection, which is open already.

    Each `send` is one transaction; any number may be under way, and they are answered in turn.

    notified: called with the payload of each notification.  lost: called once, unless `close` was
    called, when there is no connection any more.
    """

    def __init__(
        self,
        libpq: PGconn,
        reactor: Any,
        *,
        notified: Callable[[str], None],
        lost: Callable[[QueueUnavailable], None],
    ) -> None:
        self._libpq = libpq
        self._reactor = reactor
        self._notified = notified
        self._lost = lost
        self._sent: deque[_Sent] = deque()
        self._prepared: set[Statement] = set()
        self._heard = reactor.seconds()
        self._writing = False
        self._closed = False
        self._last_words = ""
        self._is_doubtful = False
        # libpq closes its socket when the connection breaks, and the reactor must not watch a
        # number that is no file any more, or another one.
        self._number = os.dup(libpq.socket)
        libpq.nonblocking = 1
        libpq.notice_handler = self._noticed
        libpq.enter_pipeline_mode()
        reactor.addReader(self)

    def send(self, queries: Sequence[Query], receiver: Receiver) -> None:
        """Send queries that are one transaction."""
        sent = _Sent(receiver, self._reactor.seconds())
        self._sent.append(sent)
        libpq, prepared, preparing = self._libpq, self._prepared, sent.preparing
        try:
            for statement, values in queries:
                if statement not in prepared:
                    prepared.add(statement)
                    preparing.append(statement)
                    libpq.send_prepare(statement.name, statement.sql)
                preparing.append(None)
                libpq.send_query_prepared(
                    statement.name, values, _FORMATS[len(values)], result_format=1
                )
            libpq.pipeline_sync()
            self._flush()
        except OperationalError:
            # Not now: the caller is not ready to be told.
            self._reactor.callLater(0, self._fail)

    def silence(self) -> float:
        """Return the seconds for which an answer has been due and nothing was heard."""
        if not self._sent:
            return 0.0
        return float(self._reactor.seconds() - max(self._heard, self._sent[0].at))

    def close(self, error: QueueError) -> None:
        """Close at once; what is under way fails with `error`."""
        self._end(error, None)

    def abort(self, error: QueueUnavailable) -> None:
        """Give the connection up because of `error`."""
        self._end(error, self._lost)

    def fileno(self) -> int:
        return -1 if self._closed else self._number

    def logPrefix(self) -> str:
        return "postgresql"

    def doRead(self) -> None:
        libpq = self._libpq
        self._heard = self._reactor.seconds()
        broken = False
        try:
            libpq.consume_input()
        except OperationalError:
            broken = True
        self._read_results()
        while not self._closed and (notification := libpq.notifies()) is not None:
            self._notified(notification.extra.decode(errors="replace"))
        if broken:
            self._fail()

    def _read_results(self) -> None:
        libpq, between = self._libpq, False
        while self._sent and not self._closed and not libpq.is_busy():
            result = libpq.get_result()
            if result is not None:
                between = False
                self._take(self._sent[0], result)
            elif between:
                return
            else:
                between = True  # None stands between the results of two queries

    def _take(self, sent: _Sent, result: PGresult) -> None:
        if self._is_doubtful:  # libpq reads ahead: of whichever transaction under way
            self._fail()
            return
        status = result.status
        if status == _SYNC:
            self._sent.popleft()
            if sent.error is None:
                sent.receiver.done(sent.results)
            else:
                sent.receiver.refused(sent.error)
            return
        preparation = sent.preparing.popleft() if sent.preparing else None
        if status in _DONE:
            if preparation is None:
                sent.results.append(result)
            return
        if preparation is not None:
            self._prepared.discard(preparation)
        if status != _ABORTED:
            sent.error = result
            self._noticed(result)

    def doWrite(self) -> None:
        self._heard = self._reactor.seconds()  # the server has read: a large body takes its time
        try:
            self._flush()
        except OperationalError:
            self._fail()

    def connectionLost(self, reason: Failure) -> None:
        self._fail()

    def _flush(self) -> None:
        writing = bool(self._libpq.flush())
        if writing is not self._writing:
            self._writing = writing
            if writing:
                self._reactor.addWriter(self)
            else:
                self._reactor.removeWriter(self)

    def _noticed(self, notice: PGresult) -> None:
        function = notice.error_field(DiagnosticField.SOURCE_FUNCTION)
        self._is_doubtful = self._is_doubtful or function == UNREPLICATED
        severity = notice.error_field(DiagnosticField.SEVERITY_NONLOCALIZED)
        if severity in _FATAL or self._is_doubtful:
            self._last_words = one_line(notice.error_field(DiagnosticField.MESSAGE_PRIMARY) or b"")

    def _fail(self) -> None:
        if not self._closed:
            cause = self._last_words or one_line(self._libpq.error_message) or "it was closed"
            self.abort(QueueUnavailable(f"the connection to Postgres was lost: {cause}"))

    def _end(self, error: ErrorT, lost: Callable[[ErrorT], None] | None) -> None:
        if self._closed:
            return
        self._reactor.removeReader(self)
        self._reactor.removeWriter(self)
        self._closed = True
        os.close(self._number)
        with suppress(OperationalError):
            self._libpq.finish()
        # First, so that who is told that a call is lost finds no connection to call again.
        if lost is not None:
            lost(error)
        while self._sent:
            self._sent.popleft().receiver.lost(error)
