"""The durable store on Postgres: one active server, others that stand by, one round trip a commit.

A server is active while its session holds the queue's advisory lock. All that it writes goes
through that very session, which Postgres ends before it gives the lock to another one: no commit
of a server that has lost the lock can come later. Each batch also looks at the `epoch`, which a
take-over increments, so that this holds behind a pooler too, which mixes sessions up.

When the connection is lost, the outcome of a batch may be unknown. The store is lost then too: the
service drops its clients, and stands for being the active server again.

A batch is a statement for each kind of rows, which takes them as arrays; several go through the
pipeline of libpq, which makes one transaction of them. Times in tables are by the clock of the
database.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from time import monotonic, perf_counter, time
from typing import Any, Final, TypeAlias

import psycopg
from attrs import define, field, frozen
from twisted.logger import Logger
from typing_extensions import override

from evserve.events import QueueError
from evserve.events.postgres import parse_url
from evserve.events.postgres.errors import UNREPLICATED
from evserve.events.postgres.schema import prepare_schema, same_server, server_lock
from evserve.queue.core import Change, Core
from evserve.queue.model import Limits
from evserve.queue.store import (
    Batch,
    DamagedEventError,
    Kept,
    OutboxRow,
    Outcome,
    Store,
    StoreError,
    UpdateRow,
    WriteResult,
    listed,
)


_log = Logger()

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]
# Fills a core from a store; raises StoreError.
Load: TypeAlias = Callable[[Store, Core], None]

# Seconds between two attempts to become the active server.
_POLL: Final = 0.5

# What libpq does unless the URL says otherwise. An active server finds out within three to four
# seconds that its network is gone, so that it has given up before another one takes over.
_OPTIONS: Final = {
    "fallback_application_name": "evserve-queue",
    "client_encoding": "UTF8",
    "connect_timeout": "3",
    "keepalives_idle": "1",
    "keepalives_interval": "1",
    "keepalives_count": "2",
    "target_session_attrs": "read-write",
    "tcp_user_timeout": "3000",
}
# Seconds without a batch after which an empty one finds out whether the session still lives.
_HEARTBEAT: Final = 1.0

# Postgres ends the session of a server whose machine or network is gone after about four seconds
# at the latest, also without a candidate.
# The plans are always the same: an index for each array. Statistics of a table that was just empty
# must not make it read the whole of one that is full.
_SESSION: Final = """
SET search_path = pg_catalog;
SET tcp_keepalives_idle = 2;
SET tcp_keepalives_interval = 1;
SET tcp_keepalives_count = 2;
SET tcp_user_timeout = 4000;
SET client_connection_check_interval = 1000;
SET idle_in_transaction_session_timeout = 10000;
SET idle_session_timeout = 0;
SET statement_timeout = 0;
SET lock_timeout = 2000;
SET default_transaction_isolation = 'read committed';
SET plan_cache_mode = force_generic_plan;
SET enable_seqscan = off;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET jit = off;
"""
# By which other servers, and people, know it in pg_stat_activity.
_ACTIVE_NAME: Final = "evserve-queue active"

_TRY_LOCK: Final = "SELECT pg_try_advisory_lock(%s)"
_HOLDERS: Final = """
SELECT mode, count(*) FROM pg_locks
WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND classid = %s AND objid = %s
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
GROUP BY mode
"""
# An active server is never silent for long. One that is (a stopped process, a frozen network)
# loses its session to a candidate. Postgres's own time-outs of sessions do not see all silences:
# not within a pipeline, nor after one of psycopg's.
_END_SILENT: Final = """
SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity AS session USING (pid)
WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND classid = %s AND objid = %s
    AND datname = current_database() AND application_name = %s
    AND wait_event = 'ClientRead' AND state_change < clock_timestamp() - interval '3.5 s'
"""
_TAKE_OVER: Final = """
INSERT INTO {schema}.setting AS known VALUES ('epoch', '1')
ON CONFLICT (name) DO UPDATE SET value = known.value::bigint + 1
RETURNING value
"""
# Reservations end with the consumer's connection.
_END_RESERVATIONS: Final = """
UPDATE {schema}.event SET state = 0, due = NULL, owner = NULL, reserved_at = NULL WHERE state = 1
"""
_CLOCK: Final = "SELECT date_part('epoch', clock_timestamp())"

# A condition of every statement: a transaction that passed it ends before a take-over can go on.
_FENCE: Final = """
WITH fence AS MATERIALIZED (
    SELECT FROM {schema}.setting WHERE name = 'epoch' AND value = %s FOR SHARE
)
"""
_BEAT: Final = "{fence} SELECT count(*) FROM fence"
_NEXT_ID: Final = "{fence} SELECT count(setval('{schema}.event_id', %s::bigint, false)) FROM fence"
_PUT: Final = """
{fence}, done AS (
    INSERT INTO {schema}.event
        (id, type, state, priority, delay, ttr, created, due, key, body)
    SELECT id, type, state, priority, delay, ttr,
        to_timestamp(created), to_timestamp(nullif(due, 0)), key, body
    FROM fence, unnest(
        %s::bigint[], %s::text[], %s::smallint[], %s::bigint[], %s::float8[], %s::bigint[],
        %s::float8[], %s::float8[], %s::text[], %b::bytea[]
    ) AS item(id, type, state, priority, delay, ttr, created, due, key, body)
) SELECT count(*) FROM fence
"""
_UPDATE: Final = """
{fence}, done AS (
    UPDATE {schema}.event AS event SET
        state = item.state, priority = item.priority, delay = item.delay,
        due = to_timestamp(nullif(item.due, 0)), attempts = item.attempts,
        timeouts = item.timeouts, releases = item.releases, buries = item.buries,
        kicks = item.kicks
    FROM fence, unnest(
        %s::bigint[], %s::smallint[], %s::bigint[], %s::float8[], %s::float8[],
        %s::integer[], %s::integer[], %s::integer[], %s::integer[], %s::integer[]
    ) AS item(id, state, priority, delay, due, attempts, timeouts, releases, buries, kicks)
    WHERE event.id = item.id
) SELECT count(*) FROM fence
"""
# The body comes from the event's row: it is not in memory, or need not be sent again.
_KEEP: Final = """
{fence}, done AS (
    INSERT INTO {schema}.handled (
        event, type, priority, delay, ttr, put_at, attempts, timeouts, releases, buries, kicks,
        outcome, result, error, reserved_at, settled_at, expires, body
    )
    SELECT item.id, item.type, item.priority, item.delay, item.ttr, to_timestamp(item.created),
        item.attempts, item.timeouts, item.releases, item.buries, item.kicks,
        outcome, result, error, to_timestamp(item.reserved_at),
        to_timestamp(item.settled_at), to_timestamp(item.expires),
        event.body
    FROM fence, unnest(
        %s::bigint[], %s::text[], %s::bigint[], %s::float8[], %s::bigint[], %s::float8[],
        %s::integer[], %s::integer[], %s::integer[], %s::integer[], %s::integer[],
        %s::text[], %b::bytea[], %s::text[], %s::float8[], %s::float8[], %s::float8[]
    ) WITH ORDINALITY AS item(
        id, type, priority, delay, ttr, created, attempts, timeouts, releases, buries, kicks,
        outcome, result, error, reserved_at, settled_at, expires, place
    )
    JOIN {schema}.event ON event.id = item.id
    ORDER BY place
) SELECT count(*) FROM fence
"""
_ADVANCE: Final = """
{fence}, done AS (
    INSERT INTO {schema}.sequence SELECT %s, %s FROM fence
    ON CONFLICT (name) DO UPDATE SET number = excluded.number
) SELECT count(*) FROM fence
"""
_DELETE: Final = """
{fence}, done AS (
    DELETE FROM {schema}.event WHERE id = ANY(%s::bigint[]) AND EXISTS (SELECT FROM fence)
) SELECT count(*) FROM fence
"""
_BIND: Final = """
{fence}, done AS (
    INSERT INTO {schema}.binding SELECT %s, %s FROM fence ON CONFLICT DO NOTHING
) SELECT count(*) FROM fence
"""
_UNBIND: Final = """
{fence}, done AS (
    DELETE FROM {schema}.binding
    WHERE source = %s AND target = %s AND EXISTS (SELECT FROM fence)
) SELECT count(*) FROM fence
"""

# As in sqlite.py: reading a million rows costs by the column, and most say nothing.
_UNCHANGED: Final = """
state = 0 AND delay = 0 AND key IS NULL AND attempts + timeouts + releases + buries + kicks = 0
"""
_COLUMNS: Final = """
id, type, priority, ttr, date_part('epoch', created) - %(skew)s, octet_length(body)
"""
_LOAD_UNCHANGED: Final = "SELECT {columns} FROM {schema}.event WHERE {unchanged}"
_LOAD_CHANGED: Final = """
SELECT {columns}, key, state, delay, coalesce(date_part('epoch', due) - %(skew)s, 0),
    attempts, timeouts, releases, buries, kicks
FROM {schema}.event WHERE NOT ({unchanged})
"""
# The one time when reading the whole table is right.
_LOAD_PLAN: Final = "SET LOCAL enable_seqscan = on; SET LOCAL cursor_tuple_fraction = 1"
_LOAD_ROWS: Final = 20_000  # at once: a few hundredths of a second
_LOAD_IDS: Final = """
SELECT greatest(
    (SELECT last_value + is_called::integer FROM {schema}.event_id),
    (SELECT coalesce(max(id), 0) + 1 FROM {schema}.event)
)
"""
_LOAD_SEQUENCES: Final = "SELECT name, number FROM {schema}.sequence"
_LOAD_BINDINGS: Final = "SELECT source, target FROM {schema}.binding ORDER BY source, target"

# A body is read together with those that are likely to be the next, up to so many bytes.
_BODIES: Final = """
SELECT id, body FROM (
    SELECT id, body, sum(octet_length(body)) OVER (ORDER BY id) AS size
    FROM (SELECT id, body FROM {schema}.event WHERE id >= %s ORDER BY id LIMIT 64) AS first
) AS sized
WHERE id = %s OR size < 262144
"""

_HISTORY: Final = """
SELECT id, event, type, priority, delay, ttr, date_part('epoch', put_at) - %(skew)s,
    attempts, timeouts, releases, buries, kicks, outcome, result, error,
    date_part('epoch', reserved_at) - %(skew)s, date_part('epoch', settled_at) - %(skew)s,
    date_part('epoch', expires) - %(skew)s, body
FROM {schema}.handled
WHERE expires > to_timestamp(%(now)s) AND id < %(before)s {of_type} ORDER BY id DESC LIMIT 32
"""
_EXPIRE: Final = """
DELETE FROM {schema}.handled WHERE id IN (
    SELECT id FROM {schema}.handled WHERE expires <= clock_timestamp() ORDER BY expires LIMIT 500
)
"""
# Seconds between two looks for rows of the history that have expired.
_EXPIRE_INTERVAL: Final = 1.0

# Seconds between two clocks that may come from the way of the question.
_CLOSE: Final = 0.1

# No id is given twice, neither by this server nor, later, by the engine: the sequence is beyond
# all that were given, and is moved by thousands.
_IDS_AT_ONCE: Final = 10_000

_FULL: Final = ("53000", "53100", "53400")  # insufficient resources: disk_full, ...
# Serialization failures, locks, cancelled statements, memory: nothing was written.
_PASSING: Final = ("40001", "40P01", "55P03", "57014", "53200")
_DAMAGE: Final = ("XX001", "XX002")  # data_corrupted, index_corrupted


@frozen
class Address:
    """Where a queue is: a database, and the schema there.

    conninfo: of libpq; the password may be in it.  shown: for messages, without the password.
    """

    conninfo: str = field(repr=False)
    schema: str
    shown: str

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Parse the URL of the engine; raises StoreError."""
        try:
            return cls(*parse_url(url, _OPTIONS))
        except QueueError as error:
            raise StoreError(f"--store: {error}") from None

    def connect(self, **server: Any) -> Connection:
        """Return a session that commits each statement by itself; raises psycopg.Error."""
        connection = psycopg.connect(self.conninfo, autocommit=True, **server)
        try:
            connection.execute(_SESSION)
            prepare_schema(connection.pgconn, self.schema)
        except BaseException:
            connection.close()
            raise
        return connection

    def sql(self, statement: str) -> str:
        """Return `statement` with its parts filled in, and the schema of this queue."""
        for name, part in (("fence", _FENCE), ("columns", _COLUMNS), ("unchanged", _UNCHANGED)):
            statement = statement.replace(f"{{{name}}}", part)
        return statement.replace("{schema}", f'"{self.schema}"')


@define(eq=False, repr=False)
class Candidate:
    """A server that stands for being the active one, and stands by until then.

    `reason` is why it stands by; `stop` ends that.
    """

    address: Address
    limits: Limits
    reason: str = field(default="standing by", init=False)
    _stopped: threading.Event = field(factory=threading.Event, init=False)
    _connection: Connection | None = field(default=None, init=False)
    _has_connected: bool = field(default=False, init=False)

    def stop(self) -> None:
        """Have `take_over` return soon."""
        self._stopped.set()

    def take_over(self, load: Load) -> "tuple[Core, PostgresStore] | None":
        """Block until this is the active server, and return what was stored; None if stopped.

        Once a connection has been made, what can pass is waited for. Raises StoreError.
        """
        self.reason = "standing by"
        try:
            while not self._stopped.is_set():
                taken = self._try(load)
                if taken is not None:
                    return taken
                self._stopped.wait(_POLL)
        finally:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
        return None

    def _try(self, load: Load) -> "tuple[Core, PostgresStore] | None":
        store = None
        try:
            if self._connection is None:
                self._connection = self.address.connect()
            self._has_connected = True
            if not self._take_lock(self._connection):
                return None
            connection, self._connection = self._connection, None
            store = PostgresStore.take_over(self.address, connection)
            core = Core(self.limits)
            load(store, core)
        except (psycopg.Error, QueueError, StoreError, ValueError) as error:
            cause = str(error) if isinstance(error, StoreError) else _one_line(error)
            is_alive = store is not None and not store.is_lost
            if store is not None:
                store.close()
            if not self._has_connected or is_alive:
                raise StoreError(f"cannot open {self.address.shown}: {cause}") from None
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            self._stand_by(f"no connection: {cause}")
            return None
        return core, store

    def _take_lock(self, connection: Connection) -> bool:
        key = server_lock(self.address.schema)
        if _value(connection.execute(_TRY_LOCK, (key,))):
            return True
        high, low = key >> 32 & 0xFFFFFFFF, key & 0xFFFFFFFF
        holders: dict[str, int] = dict(connection.execute(_HOLDERS, (high, low)).fetchall())
        if "ExclusiveLock" in holders:
            self._stand_by("another server is active")
            connection.execute(_END_SILENT, (high, low, _ACTIVE_NAME))
        elif holders:
            self._stand_by("programs have the queue open as postgresql:// themselves")
        return False

    def _stand_by(self, cause: str) -> None:
        reason = f"standing by: {cause}"
        if reason != self.reason:
            self.reason = reason
            _log.info("{store}: {reason}", store=self.address.shown, reason=reason)


@define(eq=False, repr=False)
class PostgresStore(Store):
    """The store of the active server, until its session ends.

    Only the writer thread uses `_writer`, only the reactor's `_reader`.  skew: seconds by which
    the clock of the database is ahead of ours.
    """

    address: Address
    is_lost: bool = field(default=False, init=False)
    durable: bool = field(default=True, init=False)
    has_outbox: bool = field(default=False, init=False)
    heartbeat: float | None = field(default=_HEARTBEAT, init=False)
    _writer: Connection
    _reader: Connection
    _epoch: str
    _skew: float
    _next_id: int = field(default=1, init=False)
    _last_id: int = field(default=1, init=False)
    _cause: str = field(default="", init=False)
    _bodies: dict[int, bytes] = field(factory=dict, init=False)
    _expire_at: float = field(default=0.0, init=False)  # by the monotonic clock
    _sql: dict[str, str] = field(factory=dict, init=False)

    @classmethod
    def take_over(cls, address: Address, connection: Connection) -> "PostgresStore":
        """Become the active server in the session that has the lock; raises psycopg.Error."""
        reader = None
        try:
            reader = address.connect(**same_server(connection.pgconn))
            began = time()
            there = _value(connection.execute(_CLOCK))
            skew = there - (began + time()) / 2
            if abs(skew) < _CLOSE:
                skew = 0.0
            epoch = _value(connection.execute(address.sql(_TAKE_OVER)))
            connection.execute(address.sql(_END_RESERVATIONS))
        except BaseException:
            connection.close()
            if reader is not None:
                reader.close()
            raise
        store = cls(address, connection, reader, epoch, skew)
        connection.add_notice_handler(store._noticed)
        return store

    @override
    def load(self, core: Core) -> None:
        query = self._query
        try:
            for source, target in query(_LOAD_BINDINGS).fetchall():
                core.bind(source, target)
            core.sequences.update(query(_LOAD_SEQUENCES).fetchall())
            with self._writer.transaction():
                self._writer.execute(_LOAD_PLAN)
                core.load_unchanged(self._rows(_LOAD_UNCHANGED))
                core.load_changed(self._rows(_LOAD_CHANGED))
            core.finish_loading()
            next_id = _value(query(_LOAD_IDS))
            self._writer.execute(f"SET application_name = '{_ACTIVE_NAME}'")
        except psycopg.Error as error:
            self.is_lost = self._writer.closed
            cause = _one_line(error)
            raise StoreError(f"cannot read {self.address.shown}: {cause}") from error
        self._next_id = self._last_id = core.next_id = next_id

    def _query(self, statement: str) -> Any:
        return self._writer.execute(self.address.sql(statement), binary=True)

    def _rows(self, statement: str) -> Iterator[tuple[Any, ...]]:
        with self._writer.cursor("load") as cursor:
            cursor.execute(self.address.sql(statement), {"skew": self._skew}, binary=True)
            while rows := cursor.fetchmany(_LOAD_ROWS):
                yield from rows

    @override
    def write(self, batch: Batch) -> WriteResult:
        started = perf_counter()
        puts = self._try(batch, with_puts=True)
        rest = puts
        if puts is Outcome.FULL and batch.rows > len(batch.puts):
            rest = self._try(batch, with_puts=False)
        return WriteResult(puts, rest, perf_counter() - started, self._cause)

    def _try(self, batch: Batch, *, with_puts: bool) -> Outcome:
        if self.is_lost:
            return Outcome.BROKEN
        statements = list(self._statements(batch, with_puts=with_puts))
        next_id = self._next_id
        if batch.puts and batch.puts[-1].event.id >= next_id:
            next_id = batch.puts[-1].event.id + _IDS_AT_ONCE
            statements.insert(0, (_NEXT_ID, (next_id,)))
        self._cause = ""
        try:
            passed = self._execute(statements or [(_BEAT, ())])
        except psycopg.Error as error:
            return self._failed(error)
        if not passed:
            return self._lose(
                "another server has taken over (behind a pooler, servers need "
                "sessions of their own)"
            )
        if self._cause:  # what was committed may be on fewer disks than was asked for
            return self._lose(self._cause)
        self._next_id = next_id
        if batch.puts:
            self._last_id = batch.puts[-1].event.id + 1
        return Outcome.COMMITTED

    def _execute(self, statements: Sequence[tuple[str, Sequence[Any]]]) -> bool:
        """Execute `statements` in one transaction; return whether all passed the fence."""
        if len(statements) == 1:  # a transaction by itself
            return bool(_value(self._one(*statements[0])))
        with self._writer.pipeline():
            cursors = [self._one(*statement) for statement in statements]
        return all(_value(cursor) for cursor in cursors)

    def _one(self, statement: str, values: Sequence[Any]) -> Any:
        text = self._sql.get(statement)
        if text is None:
            text = self._sql[statement] = self.address.sql(statement)
        return self._writer.execute(text, (self._epoch, *values), prepare=True)

    def _statements(self, batch: Batch, *, with_puts: bool) -> Iterator[tuple[str, Sequence[Any]]]:
        if batch.puts and with_puts:
            yield _PUT, _put_arrays(batch.puts, self._skew)
        if batch.kept and with_puts:
            yield _KEEP, _kept_arrays(batch.kept, self._skew)
        for advance in batch.advances:
            if with_puts or not advance.with_put:
                yield _ADVANCE, (advance.sequence, advance.number)
        if batch.updates:
            yield _UPDATE, _update_arrays(batch.updates, self._skew)
        if batch.deletes:
            yield _DELETE, (_numbers(batch.deletes),)
        for binding in batch.bindings:
            yield _BIND if binding.bound else _UNBIND, (binding.source, binding.target)

    def _noticed(self, notice: Any) -> None:
        if notice.source_function == UNREPLICATED.decode():
            self._cause = f"{notice.message_primary}"

    def _failed(self, error: psycopg.Error) -> Outcome:
        """Tell what can pass, such as a full disk, from a session that is lost."""
        self._cause = f"{self.address.shown}: {_one_line(error)}"
        state = error.sqlstate or ""
        if not self._writer.closed:
            if state in _FULL:
                return Outcome.FULL
            if state in _PASSING:
                return Outcome.BUSY
            if state in _DAMAGE:
                return Outcome.DAMAGED
        return self._lose(self._cause)

    def _lose(self, cause: str) -> Outcome:
        """Give up being the active server."""
        self._cause = cause
        self.is_lost = True
        return Outcome.BROKEN

    @override
    def maintain(self) -> None:
        """Delete what has expired from the history."""
        if self.is_lost:
            return
        try:
            if monotonic() >= self._expire_at:
                self._expire_at = monotonic() + _EXPIRE_INTERVAL
                self._writer.execute(self.address.sql(_EXPIRE), prepare=True)
        except psycopg.Error as error:
            if self._writer.closed:
                self._lose(f"{self.address.shown}: {_one_line(error)}")
                return
            _log.warn(
                "{store}: the history is not shortened: {error}",
                store=self.address.shown,
                error=_one_line(error),
            )

    @override
    def outbox(self) -> list[OutboxRow]:
        return []  # no other program can put while a server is active

    @override
    def history(self, tube: str | None, most: int, now: float) -> list[Kept]:
        try:
            return listed(self._handled(tube, now), most)
        except psycopg.Error as error:
            cause = self._reader_failed(error)
            raise StoreError(f"cannot read the history of {cause}") from error

    def _handled(self, tube: str | None, now: float) -> Iterator[Kept]:
        of_type = "" if tube is None else "AND type = %(type)s"
        statement = self.address.sql(_HISTORY.replace("{of_type}", of_type))
        before = 2**63 - 1
        times = {"skew": self._skew, "now": now + self._skew, "type": tube}
        while True:
            values = {**times, "before": before}
            rows = self._reader.execute(statement, values, binary=True).fetchall()
            for before, *row in rows:  # noqa: B007 - the last one is where to go on
                yield Kept._make(row)
            if not rows:
                return

    def _reader_failed(self, error: psycopg.Error) -> str:
        """Return what failed, as one line."""
        cause = f"{self.address.shown}: {_one_line(error)}"
        if self._reader.closed:
            self._lose(cause)
        return cause

    @override
    def body(self, event_id: int) -> bytes:
        body = self._bodies.pop(event_id, None)
        if body is not None:
            return body
        try:
            rows = self._reader.execute(
                self.address.sql(_BODIES), (event_id, event_id), binary=True, prepare=True
            ).fetchall()
        except psycopg.Error as error:
            cause = self._reader_failed(error)
            kind = DamagedEventError if error.sqlstate in _DAMAGE else StoreError
            raise kind(f"cannot read event {event_id} of {cause}") from error
        self._bodies = dict(rows)
        body = self._bodies.pop(event_id, None)
        if body is None:
            raise DamagedEventError(f"event {event_id} is missing from {self.address.shown}")
        return body

    @override
    def close(self) -> None:
        try:
            if self._last_id < self._next_id and not self.is_lost:
                self._execute([(_NEXT_ID, (self._last_id,))])
        except psycopg.Error:  # the next server skips some ids
            pass
        finally:
            self._reader.close()
            self._writer.close()


def _value(cursor: Any) -> Any:
    """Return the value of a result with one row."""
    return cursor.fetchone()[0]


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return "".join(each if each.isprintable() else "?" for each in text)


# Arrays as Postgres reads them: text is the cheapest to write from Python.


def _numbers(values: Sequence[float]) -> str:
    return f"{{{','.join(map(str, values))}}}"


def _texts(values: Sequence[str | None]) -> str:
    return f"{{{','.join(map(_text, values))}}}"


def _text(value: str | None) -> str:
    if value is None:
        return "NULL"
    escaped = value.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'


def _put_arrays(puts: Sequence[Change], skew: float) -> list[Any]:
    events = [put.event for put in puts]
    return [
        _numbers([event.id for event in events]),
        _texts([event.tube.name for event in events]),
        _numbers([int(event.state) for event in events]),
        _numbers([event.pri for event in events]),
        _numbers([put.delay for put in puts]),
        _numbers([event.ttr for event in events]),
        _numbers([event.created + skew for event in events]),
        _times([put.due for put in puts], skew),
        _texts([event.key for event in events]),
        [event.body or b"" for event in events],
    ]


def _update_arrays(rows: Sequence[UpdateRow], skew: float) -> list[Any]:
    last = {row[0]: row for row in rows}  # an event may change twice in a batch
    columns = list(zip(*last.values(), strict=True))
    arrays = [_numbers(column) for column in columns]
    arrays[4] = _times(columns[4], skew)
    return arrays


def _kept_arrays(rows: Sequence[Kept], skew: float) -> list[Any]:
    arrays: list[Any] = []
    for name, column in zip(Kept._fields[:-1], zip(*rows, strict=True), strict=False):
        if name in ("tube", "outcome", "error"):
            arrays.append(_texts(column))
        elif name == "result":
            arrays.append(list(column))
        elif name in ("created", "reserved_at", "settled_at", "expires"):
            arrays.append(_numbers([each + skew for each in column]))
        else:
            arrays.append(_numbers(column))
    return arrays


def _times(values: Sequence[float], skew: float) -> str:
    return _numbers([each + skew if each else 0 for each in values])
