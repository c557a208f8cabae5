"""The schema of the queue: tables, indexes, the function `put`, and their migrations.

The engine and the queue server on Postgres share them. Everything is in one schema of its own, so
that one database can hold several queues.
"""

import re
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final

from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn, PGresult

from evserve.events.errors import BadQueueURL
from evserve.events.postgres.errors import UnusableError, statement_error


DEFAULT_SCHEMA: Final = "evserve"

OWNER_LOCKS: Final = """
FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND granted
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
"""Where to find the locks of owners: the class is `classid`, as an unsigned number."""

_NAME: Final = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,62}")

# Who reads what:
#   event_ready    reserve: the first by priority and age of a type
#   event_due      the sweep: delays and reservations that are over; the reservations of an owner
#   event_waiting  kick, peek, depth: delayed and buried events of a type
# A reserved event is in no index by type: it leaves `event_ready`, and that is all.
#
# An engine has a row in `owner` and, in its session, an advisory lock on it (see owner_class): who
# finds a row without a lock gives the events back. Its number is random, because a failover may
# undo what a sequence gave out.
#
# Each event leaves two dead rows, when it is reserved and when it is removed. Autovacuum comes
# once a minute at most (autovacuum_naptime), so it should not be slowed down then; nor should a
# large backlog keep it from coming (benchmarks/queue/bloat.py).
#
# `due` is when the delay or the reservation ends; for a buried event, when it was buried. The ids
# come from a sequence without a cache, because a cache for each session would break the order of
# puts among processes; taking one costs a microsecond.
_TABLES: Final = """
CREATE SEQUENCE {schema}.event_id;
CREATE TABLE {schema}.owner (id integer PRIMARY KEY);
CREATE TABLE {schema}.event (
    id bigint PRIMARY KEY DEFAULT nextval('{schema}.event_id'),
    type text COLLATE "C" NOT NULL,
    state smallint NOT NULL DEFAULT 0,
    priority bigint NOT NULL DEFAULT 1024,
    delay double precision NOT NULL DEFAULT 0,
    ttr bigint NOT NULL DEFAULT 60,
    created timestamptz NOT NULL DEFAULT clock_timestamp(),
    due timestamptz,
    reserved_at timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    timeouts integer NOT NULL DEFAULT 0,
    releases integer NOT NULL DEFAULT 0,
    buries integer NOT NULL DEFAULT 0,
    kicks integer NOT NULL DEFAULT 0,
    key text COLLATE "C",
    owner bigint,
    body bytea NOT NULL
);
ALTER TABLE {schema}.event SET (
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0,
    toast.autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_threshold = 5000,
    toast.autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX event_ready ON {schema}.event (type, priority, id) WHERE state = 0;
CREATE INDEX event_due ON {schema}.event (state, due) WHERE state IN (1, 2);
CREATE INDEX event_waiting ON {schema}.event (type, state, due, id) WHERE state IN (2, 3);
CREATE UNIQUE INDEX event_key ON {schema}.event (type, key) WHERE key IS NOT NULL;
CREATE TABLE {schema}.binding (
    source text COLLATE "C",
    target text COLLATE "C",
    PRIMARY KEY (source, target)
);
CREATE TABLE {schema}.pause (type text COLLATE "C" PRIMARY KEY, until timestamptz NOT NULL);
CREATE TABLE {schema}.sequence (name text COLLATE "C" PRIMARY KEY, number bigint NOT NULL);
CREATE TABLE {schema}.setting (name text PRIMARY KEY, value text NOT NULL);
CREATE TABLE {schema}.handled (
    id bigserial PRIMARY KEY,
    event bigint NOT NULL,
    type text COLLATE "C" NOT NULL,
    priority bigint NOT NULL,
    delay double precision NOT NULL,
    ttr bigint NOT NULL,
    attempts integer NOT NULL,
    timeouts integer NOT NULL,
    releases integer NOT NULL,
    buries integer NOT NULL,
    kicks integer NOT NULL,
    body bytea NOT NULL,
    outcome text NOT NULL,
    result bytea NOT NULL,
    error text NOT NULL,
    put_at timestamptz NOT NULL,
    reserved_at timestamptz NOT NULL,
    settled_at timestamptz NOT NULL,
    expires timestamptz NOT NULL
);
CREATE INDEX handled_type ON {schema}.handled (type, id);
CREATE INDEX handled_expires ON {schema}.handled (expires);
CREATE TABLE {schema}.version (number integer NOT NULL);
"""

# What an application, a trigger or another language calls. Its columns are named with their table
# and its arguments with the function, because they have the same names. The search path is not the
# caller's: it may lead to another user's operators.
_PUT: Final = """
CREATE FUNCTION {schema}.put(
    type text,
    body bytea,
    priority bigint DEFAULT 1024,
    delay double precision DEFAULT 0,
    ttr bigint DEFAULT 60,
    key text DEFAULT NULL
) RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog AS $function$
#variable_conflict use_column
DECLARE
    number bigint;
    waits smallint := CASE WHEN put.delay > 0 THEN 2 ELSE 0 END;
    now timestamptz := clock_timestamp();
    ends timestamptz;
    copy text;
BEGIN
    IF put.type IS NULL OR put.type !~ '{name}' THEN
        RAISE '"%" is not an event type', left(put.type, 200) USING ERRCODE = '22023';
    ELSIF put.key !~ '{name}' THEN
        RAISE '"%" is not a key', left(put.key, 200) USING ERRCODE = '22023';
    ELSIF put.body IS NULL OR put.priority IS NULL OR put.delay IS NULL OR put.ttr IS NULL
        OR put.priority NOT BETWEEN 0 AND 4294967295 OR put.ttr NOT BETWEEN 1 AND 4294967295
        OR NOT (put.delay BETWEEN 0 AND 4294967295)
    THEN
        RAISE 'body, priority, delay or ttr is missing or out of range' USING ERRCODE = '22023';
    ELSIF EXISTS (SELECT FROM {schema}.setting WHERE name = 'drain') THEN
        RAISE 'the queue is draining' USING ERRCODE = '53400';
    ELSIF NOT pg_try_advisory_xact_lock_shared({lock}) THEN
        RAISE 'a queue server has the queue: put through it' USING ERRCODE = '55006';
    END IF;
    IF waits = 2 THEN
        ends := now + put.delay * interval '1 second';
    END IF;
    IF put.key IS NULL THEN
        INSERT INTO {schema}.event (type, state, priority, delay, ttr, created, due, body)
        VALUES (put.type, waits, put.priority, put.delay, put.ttr, now, ends, put.body)
        RETURNING id INTO number;
    ELSE
        LOOP
            INSERT INTO {schema}.event
                (type, state, priority, delay, ttr, created, due, key, body)
            VALUES
                (put.type, waits, put.priority, put.delay, put.ttr, now, ends, put.key, put.body)
            ON CONFLICT (type, key) WHERE key IS NOT NULL DO NOTHING
            RETURNING id INTO number;
            EXIT WHEN number IS NOT NULL;
            SELECT id INTO number FROM {schema}.event AS e
            WHERE e.type = put.type AND e.key = put.key;
            IF number IS NOT NULL THEN
                RETURN number;
            END IF;
        END LOOP;
    END IF;
    FOR copy IN SELECT target FROM {schema}.binding WHERE source = put.type ORDER BY target LOOP
        INSERT INTO {schema}.event (type, state, priority, delay, ttr, created, due, body)
        VALUES (copy, waits, put.priority, put.delay, put.ttr, now, ends, put.body);
        IF waits = 0 THEN
            PERFORM pg_notify('{channel}', copy);
        END IF;
    END LOOP;
    PERFORM pg_notify('{channel}', CASE waits WHEN 0 THEN put.type ELSE '@' || put.delay END);
    RETURN number;
END
$function$;
"""
_TYPE: Final = "^[A-Za-z0-9+/;.$_()][A-Za-z0-9+/;.$_()-]{0,199}$"

MIGRATIONS: Final = (_TABLES + _PUT,)
"""Each leads from the version of its place, counted from 0, to the next one."""


def check_schema(name: str) -> str:
    """Return `name` if it may name a schema, unquoted: so it needs no quotes in any client.

    Raises BadQueueURL.
    """
    if _NAME.fullmatch(name) is None:
        raise BadQueueURL(
            f"schema={ascii(name)[:80]}: a schema is 1 to 63 of a-z 0-9 _, and does not begin "
            "with a digit or pg_"
        )
    return name


def server_lock(schema: str) -> int:
    """Return the key of the advisory lock that engines share and a queue server has alone."""
    return _lock_key(f"evserve server {schema}")


def owner_class(schema: str) -> int:
    """Return the first key of the advisory locks of owners; the second is the owner's number."""
    return _lock_key(f"evserve owner {schema}") >> 32


def _lock_key(purpose: str) -> int:
    return int.from_bytes(sha256(purpose.encode()).digest()[:8], "big", signed=True)


def prepare_schema(
    connection: PGconn, schema: str, migrations: Sequence[str] = MIGRATIONS
) -> None:
    """Make or migrate the schema, unless it is as it should be; any number may do so at once.

    It blocks. `connection` is in no transaction. Raises QueueError.
    """
    version = len(migrations)
    if _version(connection, schema) == version:
        return
    # The second starter finds that all is done. The lock is that of the transaction.
    execute(connection, "BEGIN; SET LOCAL lock_timeout = 0")
    try:
        key = _lock_key(f"evserve schema {schema}")
        execute(connection, f"SELECT pg_advisory_xact_lock({key})")
        found = _version(connection, schema)
        if found > version:
            raise UnusableError(
                f"the schema {schema} is of version {found}, and this evserve knows {version} "
                "(update evserve)"
            )
        if found == version:
            return
        if found == 0:
            _create_schema(connection, schema)
        for migration in migrations[found:]:
            execute(connection, _named(migration, schema))
        execute(connection, _named("DELETE FROM {schema}.version", schema))
        number = f"INSERT INTO {{schema}}.version VALUES ({version})"
        execute(connection, _named(number, schema))
        execute(connection, "COMMIT")
    finally:
        connection.exec_(b"ROLLBACK")  # of nothing, after the commit


def same_server(connection: PGconn) -> dict[str, Any]:
    """Return what leads another connection to the same server, of several in a URL.

    Others may be away, or about to change places with it.
    """
    found = {"host": connection.host, "hostaddr": connection.hostaddr, "port": connection.port}
    return {name: value.decode() for name, value in found.items()}


def _named(statements: str, schema: str) -> str:
    """Fill in the names. The schema is quoted, because it may be a word of SQL, such as `user`."""
    named = statements.replace("{schema}", f'"{schema}"').replace("{channel}", schema)
    named = named.replace("{lock}", str(server_lock(schema)))
    return named.replace("{name}", _TYPE)


def _version(connection: PGconn, schema: str) -> int:
    """Return the version of the schema; 0 if there are no tables."""
    # Not `to_regclass`: it may look into a cache that does not know yet what was committed while
    # this connection waited for the lock.
    tables = "SELECT 1 FROM pg_tables WHERE schemaname = '{channel}' AND tablename = 'version'"
    if execute(connection, _named(tables, schema)).ntuples == 0:
        return 0
    number = _named("SELECT max(number) FROM {schema}.version", schema)
    return int(execute(connection, number).get_value(0, 0) or 0)


def _create_schema(connection: PGconn, schema: str) -> None:
    """Make the schema unless another starter has made it, for a role that may not."""
    encoding = execute(connection, "SHOW server_encoding").get_value(0, 0) or b""
    if encoding not in (b"UTF8", b"SQL_ASCII"):  # which have every character of a reason or result
        raise UnusableError(
            f"the encoding of the database is {encoding.decode()} (make one with ENCODING 'UTF8')"
        )
    exists = _named("SELECT 1 FROM pg_namespace WHERE nspname = '{channel}'", schema)
    found = execute(connection, exists)
    if found.ntuples == 0:
        execute(connection, _named("CREATE SCHEMA {schema}", schema))


def execute(connection: PGconn, statements: str) -> PGresult:
    """Run statements and wait for them; return the last one's result, in text.

    Raises QueueError.
    """
    result = connection.exec_(statements.encode())
    if result.status not in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK):
        raise statement_error(result)
    return result
