"""A session: the two connections of an engine, made in a thread and made again when lost.

One connection has what producers and consumers do. The other has what may take long, so that it
delays nothing: it listens, and counts, lists and removes.
"""

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from random import random
from secrets import randbelow
from threading import Thread
from typing import Any, Final

import psycopg
from attrs import define
from psycopg import OperationalError, ProgrammingError
from psycopg.pq import abc
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from evserve.backoff import BackOff
from evserve.events.errors import QueueError, QueueUnavailable
from evserve.events.postgres.connection import Connection
from evserve.events.postgres.errors import UnusableError, one_line
from evserve.events.postgres.schema import (
    OWNER_LOCKS,
    execute,
    owner_class,
    prepare_schema,
    same_server,
    server_lock,
)


RECONNECT: Final = BackOff(initial=0.1, ceiling=5)
"""Between attempts to reach a server that is away."""

SETUP_TIME: Final = 15.0
"""Seconds after which an attempt is given up, unless libpq is about to connect.

That has a limit of its own for each host, the `connect_timeout` of the URL.
"""

_log = Logger()

# The plans must not depend on statistics: between a moment when the table is empty and one when
# it holds a million events, they may say that it is empty. There is an index for every statement.
_SETTINGS: Final = """
SET client_encoding = 'UTF8';
SET search_path = pg_catalog;
SET default_transaction_isolation = 'read committed';
SET plan_cache_mode = force_generic_plan;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET enable_material = off;
SET jit = off;
SET statement_timeout = 0;
SET lock_timeout = '2s';
SET idle_in_transaction_session_timeout = 0;
"""


@define(eq=False)
class Session:
    """The connections of an engine, and the number under which it reserves."""

    fast: Connection
    slow: Connection
    owner: int


class Sessions:
    """Keeps a session open from the first `start` on.

    where: the server's name in messages.  opened, lost: called in the reactor's thread with each
    new session, and when it is gone.  failed: called after an attempt that failed, with the cause
    and whether only a person can help.
    """

    def __init__(
        self,
        reactor: Any,
        conninfo: str,
        schema: str,
        where: str,
        *,
        notified: Callable[[str], None],
        opened: Callable[[Session], None],
        lost: Callable[[QueueUnavailable], None],
        failed: Callable[[QueueError], None],
        roll: Callable[[], float] = random,
    ) -> None:
        self._reactor = reactor
        self._conninfo = conninfo.encode()
        self._schema = schema
        self._where = where
        self._notified = notified
        self._opened = opened
        self._lost = lost
        self._failed = failed
        self._roll = roll
        self._owner: int | None = None
        self._attempt: _Attempt | None = None
        self._watchdog: IDelayedCall | None = None
        self._retry: IDelayedCall | None = None
        self._failures = 0
        self._closed = False
        self.session: Session | None = None
        self.cause = "no answer"

    def start(self) -> None:
        """Begin to connect, unless that is done or under way."""
        if self.session is None and self._attempt is None and self._retry is None:
            self._connect()

    def close(self, error: QueueError) -> None:
        """Close the connections and end all attempts; what is under way fails with `error`."""
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._attempt is not None:
            self._attempt.abort()
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None
        session, self.session = self.session, None
        if session is not None:
            session.fast.close(error)
            session.slow.close(error)

    def _connect(self) -> None:
        self._retry = None
        attempt = _Attempt(self._conninfo, self._schema, self._owner)
        self._attempt = attempt
        self._watchdog = self._reactor.callLater(SETUP_TIME, self._take_too_long, attempt)

        def run() -> None:
            attempt.run()
            self._reactor.callFromThread(self._attempted, attempt)

        # A thread of its own: those of the reactor's pool may all be busy with handlers. It must
        # not keep the process from ending.
        Thread(target=run, name="evserve-postgres", daemon=True).start()

    def _take_too_long(self, attempt: "_Attempt") -> None:
        self._watchdog = None
        if attempt.is_connecting:
            self._watchdog = self._reactor.callLater(SETUP_TIME, self._take_too_long, attempt)
        else:
            attempt.abort()

    def _attempted(self, attempt: "_Attempt") -> None:
        self._attempt = None
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None
        if self._closed or attempt.error is not None:
            attempt.finish()
        if self._closed:
            return
        if attempt.error is not None:
            self._failures += 1
            self.cause = str(attempt.error)
            if self._failures == 1:
                text = "cannot reach {where}: {cause}; trying again"
                _log.warn(text, where=self._where, cause=self.cause)
            delay = RECONNECT.delay(self._failures, self._roll())
            self._retry = self._reactor.callLater(delay, self._connect)
            self._failed(attempt.error)
            return
        if self._failures:
            text = "reached {where} after {failures} failed attempts"
            _log.info(text, where=self._where, failures=self._failures)
        self._failures = 0
        self._owner = attempt.owner
        assert attempt.owner is not None
        fast, slow = [
            Connection(each, self._reactor, notified=self._notified, lost=self._session_lost)
            for each in attempt.connections
        ]
        self.session = Session(fast, slow, attempt.owner)
        self._opened(self.session)

    def _session_lost(self, error: QueueUnavailable) -> None:
        session, self.session = self.session, None
        if session is None:
            return
        _log.warn("{where}: {cause}; connecting again", where=self._where, cause=str(error))
        self._connect()
        self._lost(error)
        # One without the other is of no use.
        session.fast.close(error)
        session.slow.close(error)


class _Opening(psycopg.Connection[Any]):
    """Opens a connection of libpq, which outlives it."""

    def __del__(self, _warn: Any = None) -> None:
        """Do not warn that it is still open."""


class _Attempt:
    """One attempt to open both connections, in a thread.

    After `run` either `error` is set, or the connections and the owner.
    """

    def __init__(self, conninfo: bytes, schema: str, owner: int | None) -> None:
        self.connections: list[abc.PGconn] = []
        self.owner = owner
        self.error: QueueError | None = None
        self.is_connecting = True
        self._aborted = False
        self._conninfo = conninfo
        self._schema = schema

    def run(self) -> None:
        try:
            self._open()
            self._open(**same_server(self.connections[0]))
            self._prepare(*self.connections)
        except QueueError as error:
            self.error = error
        except (ProgrammingError, ValueError) as error:  # of options that psycopg itself reads
            self.error = UnusableError(one_line(str(error).encode()))
        except psycopg.Error as error:
            self.error = QueueUnavailable(one_line(str(error).encode()))

    def abort(self) -> None:
        """End `run`, from another thread: libpq finds its connection closed."""
        self._aborted = True
        for each in self.connections:
            with suppress(OperationalError, OSError):
                duplicate = socket.socket(fileno=os.dup(each.socket))
                duplicate.shutdown(socket.SHUT_RDWR)
                duplicate.close()

    def finish(self) -> None:
        """Close what was opened."""
        for each in self.connections:
            each.finish()

    def _open(self, **server: Any) -> None:
        self.is_connecting = True
        # PGconn.connect would hold the interpreter's lock until the server answers.
        connection = _Opening.connect(self._conninfo.decode(), **server).pgconn
        self.connections.append(connection)
        self.is_connecting = False
        if self._aborted:
            raise QueueUnavailable("it took too long")
        execute(connection, _SETTINGS)

    def _prepare(self, fast: abc.PGconn, slow: abc.PGconn) -> None:
        read_only = execute(fast, "SELECT current_setting('transaction_read_only')")
        if read_only.get_value(0, 0) == b"on":
            raise QueueUnavailable(
                "the server is read-only, as standbys are (name all servers and add "
                "target_session_attrs=read-write)"
            )
        prepare_schema(fast, self._schema)
        lock = f"SELECT pg_try_advisory_lock_shared({server_lock(self._schema)})"
        if execute(fast, lock).get_value(0, 0) != b"t":
            raise UnusableError(
                f"a queue server has the schema {self._schema} open (use its beanstalk:// URL)"
            )
        table = f'"{self._schema}".owner'
        if self.owner is None:
            number = randbelow(2**31 - 1) + 1
            execute(fast, f"INSERT INTO {table} VALUES ({number})")
            self.owner = number
        else:  # others may have taken it for dead
            execute(fast, f"INSERT INTO {table} VALUES ({self.owner}) ON CONFLICT DO NOTHING")
        self._lock_owner(fast, owner_class(self._schema), self.owner)
        execute(slow, f'LISTEN "{self._schema}"')
        # The others learn that they are not alone, and notify from now on.
        execute(slow, f"SELECT pg_notify('{self._schema}', '!')")

    def _lock_owner(self, fast: abc.PGconn, family: int, owner: int) -> None:
        """Take the lock that shows others that this owner lives.

        The server may not have noticed yet that the connection before has gone.
        """
        taken = execute(fast, f"SELECT pg_try_advisory_lock({family}, {owner})")
        if taken.get_value(0, 0) == b"t":
            return
        held = f"{OWNER_LOCKS} AND classid = {family & 0xFFFFFFFF} AND objid = {owner}"
        execute(fast, f"SELECT pg_terminate_backend(pid) {held}")
        execute(fast, f"SELECT pg_advisory_lock({family}, {owner})")
