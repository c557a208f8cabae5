"""The statements of the engine in SQL, each for many calls at a time.

Times are always the server's. `statement_timestamp()` is when the server began the statement; an
index can be searched with it, unlike with `clock_timestamp()`.
"""

from typing import Final

from evserve.events.event import ERRORS
from evserve.events.postgres.connection import Statement
from evserve.events.postgres.schema import OWNER_LOCKS, owner_class
from evserve.events.postgres.values import BYTEA, FLOAT8, INT4, INT8, TEXT


_EVENT: Final = (
    "e.id, e.type, e.body, e.priority, e.delay, e.ttr, "
    "e.attempts, e.timeouts, e.releases, e.buries, e.kicks"
)
_EVENT_TYPES: Final = (INT8, TEXT, BYTEA, INT8, FLOAT8, INT8, INT4, INT4, INT4, INT4, INT4)
_COUNTERS: Final = "attempts, timeouts, releases, buries, kicks"
_DRAINING: Final = "EXISTS (SELECT FROM {s}.setting WHERE name = 'drain')"

# A new event: the columns, and their values out of `type, body, priority, delay, ttr`.
_NEW: Final = "type, state, priority, delay, ttr, created, due, body"
_VALUES: Final = """
    CASE WHEN delay > 0 THEN 2 ELSE 0 END, priority, delay, ttr, clock_timestamp(),
    CASE WHEN delay > 0 THEN clock_timestamp() + delay * interval '1 second' END, body
"""
_ARRAYS: Final = "unnest($1::text[], $2::bytea[], $3::bigint[], $4::float8[], $5::bigint[])"

# First the events in their order, then the copies. The bindings are the outer loop, because there
# are few, and mostly none.
_PUT: Final = f"""
INSERT INTO {{s}}.event ({_NEW})
SELECT type, {_VALUES} FROM (
    SELECT * FROM {_ARRAYS} AS new (type, body, priority, delay, ttr)
    UNION ALL (
        SELECT target, body, priority, delay, ttr FROM {{s}}.binding CROSS JOIN LATERAL (
            SELECT * FROM {_ARRAYS} WITH ORDINALITY
                AS new (type, body, priority, delay, ttr, place)
            WHERE new.type = source OFFSET 0
        ) AS new
        ORDER BY place, target
    )
) AS new
WHERE NOT {_DRAINING}
RETURNING id, type
"""

# The same for one event, at half the cost.
_PUT_ONE: Final = f"""
INSERT INTO {{s}}.event ({_NEW})
SELECT type, {_VALUES} FROM (
    SELECT $1::text AS type
    UNION ALL (SELECT target FROM {{s}}.binding WHERE source = $1::text ORDER BY target)
) AS types, (
    SELECT $2::bytea AS body, $3::bigint AS priority, $4::float8 AS delay, $5::bigint AS ttr
) AS new
WHERE NOT {_DRAINING}
RETURNING id, type
"""

# A row for each call, with the id that it has if it was stored and that of the event that had the
# key before; and a row for each event that was stored. Keys are taken in one order by all, so that
# no two transactions wait for each other.
_PUT_KEYED: Final = f"""
WITH new AS MATERIALIZED (
    SELECT nextval('{{s}}.event_id') AS id, new.* FROM unnest(
        $1::text[], $2::bytea[], $3::bigint[], $4::float8[], $5::bigint[], $6::text[]
    ) AS new (type, body, priority, delay, ttr, key)
    WHERE NOT {_DRAINING}
), stored AS (
    INSERT INTO {{s}}.event (id, key, {_NEW})
    SELECT id, key, type, {_VALUES} FROM new ORDER BY type, key, id
    ON CONFLICT (type, key) WHERE key IS NOT NULL DO NOTHING
    RETURNING id, type, priority, delay, ttr, body
), copies AS (
    INSERT INTO {{s}}.event ({_NEW})
    SELECT target, {_VALUES} FROM (
        SELECT target, stored.* FROM {{s}}.binding CROSS JOIN LATERAL (
            SELECT * FROM stored WHERE stored.type = source OFFSET 0
        ) AS stored
        ORDER BY stored.id, target
    ) AS bound
    RETURNING type
)
SELECT id, (SELECT e.id FROM {{s}}.event AS e WHERE e.type = new.type AND e.key = new.key), NULL
FROM new
UNION ALL SELECT id, NULL, (SELECT string_agg(DISTINCT type, ' ') FROM copies) FROM stored
"""

# LIMIT is that of all types together, because any of them may have the first events.
_RESERVE: Final = f"""
WITH picked AS MATERIALIZED (
    SELECT first.id FROM (
        SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS wanted (type, priority, id)
        WHERE NOT EXISTS (
            SELECT FROM {{s}}.pause
            WHERE pause.type = wanted.type AND until > statement_timestamp()
        ){{lazily}} OFFSET 0
    ) AS wanted CROSS JOIN LATERAL (
        SELECT id, priority FROM {{s}}.event AS e
        WHERE e.type = wanted.type AND e.state = 0
            AND (e.priority, e.id) >= (wanted.priority, wanted.id)
        ORDER BY e.priority, e.id LIMIT $4::bigint
        FOR UPDATE SKIP LOCKED
    ) AS first
    ORDER BY first.priority, first.id LIMIT $4::bigint
)
UPDATE {{s}}.event AS e SET
    state = 1, owner = $5::bigint, attempts = e.attempts + 1, reserved_at = clock_timestamp(),
    due = clock_timestamp() + e.ttr * interval '1 second'
FROM picked WHERE e.id = picked.id
RETURNING {_EVENT}, extract(epoch FROM clock_timestamp() - statement_timestamp())::float8
"""

# The commit waits for no disk: if the server crashes, the event is merely ready again.
_LAZILY: Final = " AND (SELECT set_config('synchronous_commit', 'off', true)) IS NOT NULL"

_RESERVE_ID: Final = f"""
UPDATE {{s}}.event AS e SET
    state = 1, owner = $2::bigint, attempts = e.attempts + 1, reserved_at = clock_timestamp(),
    due = clock_timestamp() + e.ttr * interval '1 second'
WHERE e.id = $1::bigint AND e.state <> 1
RETURNING {_EVENT}
"""

# The reservation that a consumer proves: what it reserved, and nothing that came after.
_HELD: Final = """
    e.id = held.id AND e.attempts = held.attempts AND e.owner = $3::bigint AND e.state = 1
    AND e.due > statement_timestamp()
"""

_ACK: Final = f"""
DELETE FROM {{s}}.event AS e USING unnest($1::bigint[], $2::integer[]) AS held (id, attempts)
WHERE {_HELD} RETURNING e.id
"""

_KEEP: Final = f"""
INSERT INTO {{s}}.handled (
    event, type, priority, delay, ttr, {_COUNTERS}, body, outcome, result, error,
    put_at, reserved_at, settled_at, expires
)
"""

_ACK_KEPT: Final = f"""
WITH gone AS (
    DELETE FROM {{s}}.event AS e
    USING unnest($1::bigint[], $2::integer[], $4::bytea[], $5::float8[])
        AS held (id, attempts, result, keep)
    WHERE {_HELD} RETURNING e.*, result, keep
), kept AS (
    {_KEEP}
    SELECT id, type, priority, delay, ttr, {_COUNTERS}, body, 'done', result, '',
        created, reserved_at, clock_timestamp(), clock_timestamp() + keep * interval '1 second'
    FROM gone
)
SELECT id FROM gone
"""

# Of an event that a transaction has deleted.
_KEEP_HANDLED: Final = f"""
{_KEEP} VALUES (
    $1::bigint, $2::text, $3::bigint, $4::float8, $5::bigint,
    $6::integer, $7::integer, $8::integer, $9::integer, $10::integer,
    $11::bytea, 'done', $12::bytea, '', to_timestamp($13::float8), to_timestamp($14::float8),
    clock_timestamp(), clock_timestamp() + $15::float8 * interval '1 second'
)
"""

_RETRY: Final = f"""
UPDATE {{s}}.event AS e SET
    state = CASE WHEN held.delay > 0 THEN 2 ELSE 0 END,
    due = CASE WHEN held.delay > 0 THEN clock_timestamp() + held.delay * interval '1 second' END,
    delay = held.delay, releases = e.releases + 1, owner = NULL
FROM unnest($1::bigint[], $2::integer[], $4::float8[]) AS held (id, attempts, delay)
WHERE {_HELD} RETURNING e.id
"""

_BURY: Final = f"""
WITH buried AS (
    UPDATE {{s}}.event AS e
    SET state = 3, due = clock_timestamp(), buries = e.buries + 1, owner = NULL
    FROM unnest($1::bigint[], $2::integer[], $4::bytea[], $5::float8[], $6::text[])
        AS held (id, attempts, record, keep, error)
    WHERE {_HELD} RETURNING e.*, record, keep, error
), records AS (
    INSERT INTO {{s}}.event (type, body)
    SELECT target, record
    FROM buried, (
        SELECT '{ERRORS}' AS target
        UNION ALL SELECT target FROM {{s}}.binding WHERE source = '{ERRORS}'
    ) AS targets
    WHERE type <> '{ERRORS}'
    RETURNING type
), kept AS (
    {_KEEP}
    SELECT id, type, priority, delay, ttr, attempts, timeouts, releases, buries - 1, kicks, body,
        'buried', '', error, created, reserved_at, due, due + keep * interval '1 second'
    FROM buried WHERE keep > 0
)
SELECT id, (SELECT string_agg(DISTINCT type, ' ') FROM records) FROM buried
"""

_TOUCH: Final = f"""
UPDATE {{s}}.event AS e SET due = clock_timestamp() + e.ttr * interval '1 second'
FROM unnest($1::bigint[], $2::integer[]) AS held (id, attempts)
WHERE {_HELD} RETURNING e.id
"""

_UNRESERVE: Final = f"""
UPDATE {{s}}.event AS e SET state = 0, due = NULL, owner = NULL
FROM unnest($1::bigint[], $2::integer[]) AS held (id, attempts)
WHERE {_HELD} RETURNING e.id
"""

# All that an owner has reserved but what it knows that it holds.
_GIVE_BACK: Final = """
WITH back AS (
    UPDATE {s}.event AS e SET state = 0, due = NULL, owner = NULL
    WHERE e.state = 1 AND e.owner = $1::bigint AND e.id <> ALL ($2::bigint[])
    RETURNING e.type
)
SELECT DISTINCT type FROM back
"""

# It notifies by itself: the owner may be about to close its connection.
_FORGET_OWNER: Final = """
WITH forgotten AS (DELETE FROM {s}.owner WHERE id = $1::bigint), back AS (
    UPDATE {s}.event AS e SET state = 0, due = NULL, owner = NULL
    WHERE e.state = 1 AND e.owner = $1::bigint
    RETURNING e.type
)
SELECT FROM (SELECT DISTINCT type FROM back) AS types
WHERE pg_notify('{channel}', type) IS NOT NULL
"""

# With whether its lock is held.
_OWNERS: Final = """
SELECT id, (id = ANY (ARRAY(SELECT objid::bigint {locks} AND classid = {family})))::integer
FROM {s}.owner
"""

# What is over since the time $1, in seconds since the epoch; and in how many seconds is more.
_SWEEP: Final = """
WITH ended AS MATERIALIZED (
    SELECT id FROM (
        SELECT id FROM {s}.event
        WHERE state = 1 AND due BETWEEN to_timestamp($1::float8) AND statement_timestamp()
        ORDER BY due LIMIT $2::bigint FOR UPDATE SKIP LOCKED
    ) AS reserved
    UNION ALL SELECT id FROM (
        SELECT id FROM {s}.event
        WHERE state = 2 AND due BETWEEN to_timestamp($1::float8) AND statement_timestamp()
        ORDER BY due LIMIT $2::bigint FOR UPDATE SKIP LOCKED
    ) AS delayed
), ready AS (
    UPDATE {s}.event AS e SET
        state = 0, due = NULL, owner = NULL,
        timeouts = e.timeouts + CASE WHEN e.state = 1 THEN 1 ELSE 0 END
    FROM ended WHERE e.id = ended.id
    RETURNING e.type
)
SELECT
    (SELECT count(*) FROM ready), (SELECT string_agg(DISTINCT type, ' ') FROM ready),
    extract(epoch FROM least(
        (SELECT min(due) FROM {s}.event WHERE state = 1 AND due > statement_timestamp()),
        (SELECT min(due) FROM {s}.event WHERE state = 2 AND due > statement_timestamp())
    ) - clock_timestamp())::float8,
    extract(epoch FROM statement_timestamp())::float8,
    extract(epoch FROM clock_timestamp() - statement_timestamp())::float8
"""

_EXPIRE: Final = """
WITH gone AS (
    DELETE FROM {s}.handled WHERE id IN (
        SELECT id FROM {s}.handled WHERE expires <= statement_timestamp()
        ORDER BY expires LIMIT $1::bigint FOR UPDATE SKIP LOCKED
    ) RETURNING 1
)
SELECT count(*) FROM gone
"""

_KICK: Final = """
WITH picked AS MATERIALIZED (
    SELECT id FROM {s}.event WHERE type = $1::text AND state = {state}
    ORDER BY due, id LIMIT $2::bigint FOR UPDATE SKIP LOCKED
), kicked AS (
    UPDATE {s}.event AS e SET state = 0, due = NULL, kicks = e.kicks + 1
    FROM picked WHERE e.id = picked.id RETURNING 1
)
SELECT count(*) FROM kicked
"""

_STORED: Final = f"""
SELECT {_EVENT}, e.state::integer,
    extract(epoch FROM clock_timestamp() - e.created)::float8,
    CASE WHEN e.state IN (1, 2) THEN
        greatest(0, extract(epoch FROM e.due - clock_timestamp()))
    ELSE 0 END::float8
FROM {{s}}.event AS e
"""
_STORED_TYPES: Final = (*_EVENT_TYPES, INT4, FLOAT8, FLOAT8)
_PEEK_READY: Final = f"{_STORED} WHERE type = $1::text AND state = 0 ORDER BY priority, id LIMIT 1"
_PEEK_OTHER: Final = (
    f"{_STORED} WHERE type = $1::text AND state = {{state}} ORDER BY due, id LIMIT 1"
)
_FIND: Final = f"{_STORED} WHERE e.id = $1::bigint"

_DELETE: Final = "DELETE FROM {s}.event WHERE id = $1::bigint AND state <> 1 RETURNING id"

_LAST_ID: Final = "SELECT last_value FROM {s}.event_id"

# Up to an id, so that it ends although events are put meanwhile.
_TRUNCATE: Final = """
WITH gone AS (
    DELETE FROM {s}.event WHERE id IN (
        SELECT id FROM {s}.event WHERE type = $1::text AND id <= $2::bigint AND {states}
        LIMIT $3::bigint FOR UPDATE SKIP LOCKED
    ) RETURNING 1
)
SELECT count(*) FROM gone
"""

_PAUSE: Final = """
INSERT INTO {s}.pause VALUES ($1::text, clock_timestamp() + $2::float8 * interval '1 second')
ON CONFLICT (type) DO UPDATE SET until = EXCLUDED.until
"""
_END_PAUSE: Final = "DELETE FROM {s}.pause WHERE type = $1::text"
_DRAIN: Final = "INSERT INTO {s}.setting VALUES ('drain', 'on') ON CONFLICT DO NOTHING"
_END_DRAIN: Final = "DELETE FROM {s}.setting WHERE name = 'drain'"
_BIND: Final = "INSERT INTO {s}.binding VALUES ($1::text, $2::text) ON CONFLICT DO NOTHING"
_UNBIND: Final = "DELETE FROM {s}.binding WHERE source = $1::text AND target = $2::text"
_BINDINGS: Final = "SELECT source, target FROM {s}.binding ORDER BY source, target"

_DEPTH: Final = """
SELECT
    (SELECT count(*) FROM {s}.event WHERE type = $1::text AND state = 0),
    (SELECT count(*) FROM {s}.event WHERE type = $1::text AND state = 1),
    (SELECT count(*) FROM {s}.event WHERE type = $1::text AND state = 2),
    (SELECT count(*) FROM {s}.event WHERE type = $1::text AND state = 3),
    coalesce((
        SELECT greatest(0, extract(epoch FROM until - clock_timestamp()))
        FROM {s}.pause WHERE type = $1::text
    ), 0)::float8
"""

# From each type to the next one in the index: as many steps as there are types.
_TYPES: Final = """
WITH RECURSIVE ready AS (
    SELECT (SELECT min(type) FROM {s}.event WHERE state = 0) AS type
    UNION ALL SELECT (SELECT min(e.type) FROM {s}.event AS e WHERE e.state = 0 AND e.type > r.type)
    FROM ready AS r WHERE r.type IS NOT NULL
), waiting AS (
    SELECT (SELECT min(type) FROM {s}.event WHERE state IN (2, 3)) AS type
    UNION ALL SELECT (
        SELECT min(e.type) FROM {s}.event AS e WHERE e.state IN (2, 3) AND e.type > w.type
    ) FROM waiting AS w WHERE w.type IS NOT NULL
)
SELECT type FROM ready WHERE type IS NOT NULL
UNION SELECT type FROM waiting WHERE type IS NOT NULL
UNION SELECT type FROM {s}.event WHERE state = 1
"""

_POSITION: Final = "SELECT number FROM {s}.sequence WHERE name = $1::text"

_ADVANCE: Final = """
WITH moved AS (
    INSERT INTO {s}.sequence AS s VALUES ($1::text, $2::bigint)
    ON CONFLICT (name) DO UPDATE SET number = EXCLUDED.number WHERE s.number < EXCLUDED.number
    RETURNING number
)
SELECT CASE WHEN $3::text IS NOT NULL THEN
    {s}.put($3::text, $4::bytea, $5::bigint, 0, $6::bigint)
END FROM moved
"""

_HISTORY: Final = """
SELECT event, type, body, priority, delay, ttr, attempts, timeouts, releases, buries, kicks,
    outcome, result, error, extract(epoch FROM put_at)::float8,
    extract(epoch FROM reserved_at)::float8, extract(epoch FROM settled_at)::float8
FROM (
    SELECT *, sum(length(body) + length(result)) OVER (ORDER BY id DESC)
        - length(body) - length(result) AS before
    FROM (
        SELECT * FROM {s}.handled WHERE {of} AND expires > statement_timestamp()
        ORDER BY id DESC LIMIT $1::bigint
    ) AS latest
) AS summed
WHERE before < 4194304 ORDER BY id DESC
"""
_HISTORY_TYPES: Final = (*_EVENT_TYPES, TEXT, BYTEA, TEXT, FLOAT8, FLOAT8, FLOAT8)

_NOTIFY: Final = "SELECT pg_notify('{channel}', type) FROM unnest($1::text[]) AS type"


class Statements:
    """Every statement, for the tables of one schema."""

    def __init__(self, schema: str) -> None:
        def statement(name: str, sql: str, *oids: int, **more: object) -> Statement:
            for key, value in {"s": f'"{schema}"', "channel": schema, **more}.items():
                sql = sql.replace(f"{{{key}}}", str(value))
            return Statement(name, sql, *oids)

        taken = (*_EVENT_TYPES, FLOAT8)
        self.put = statement("put", _PUT, INT8, TEXT)
        self.put_one = statement("put_one", _PUT_ONE, INT8, TEXT)
        self.put_keyed = statement("put_keyed", _PUT_KEYED, INT8, INT8, TEXT)
        self.reserve = statement("reserve", _RESERVE, *taken, lazily="")
        self.reserve_lazily = statement("reserve_lazily", _RESERVE, *taken, lazily=_LAZILY)
        self.reserve_id = statement("reserve_id", _RESERVE_ID, *_EVENT_TYPES)
        self.ack = statement("ack", _ACK, INT8)
        self.ack_kept = statement("ack_kept", _ACK_KEPT, INT8)
        self.keep = statement("keep", _KEEP_HANDLED)
        self.retry = statement("retry", _RETRY, INT8)
        self.bury = statement("bury", _BURY, INT8, TEXT)
        self.touch = statement("touch", _TOUCH, INT8)
        self.unreserve = statement("unreserve", _UNRESERVE, INT8)
        self.give_back = statement("give_back", _GIVE_BACK, TEXT)
        self.forget_owner = statement("forget_owner", _FORGET_OWNER)
        family = owner_class(schema) & 0xFFFFFFFF
        self.owners = statement("owners", _OWNERS, INT4, INT4, locks=OWNER_LOCKS, family=family)
        self.sweep = statement("sweep", _SWEEP, INT8, TEXT, FLOAT8, FLOAT8, FLOAT8)
        self.expire = statement("expire", _EXPIRE, INT8)
        self.kick_buried = statement("kick_buried", _KICK, INT8, state=3)
        self.kick_delayed = statement("kick_delayed", _KICK, INT8, state=2)
        self.peek_ready = statement("peek_ready", _PEEK_READY, *_STORED_TYPES)
        self.peek_delayed = statement("peek_delayed", _PEEK_OTHER, *_STORED_TYPES, state=2)
        self.peek_buried = statement("peek_buried", _PEEK_OTHER, *_STORED_TYPES, state=3)
        self.find = statement("find", _FIND, *_STORED_TYPES)
        self.delete = statement("delete", _DELETE, INT8)
        self.last_id = statement("last_id", _LAST_ID, INT8)
        self.truncate_ready = statement("truncate_ready", _TRUNCATE, INT8, states="state = 0")
        self.truncate_other = statement(
            "truncate_other", _TRUNCATE, INT8, states="state IN (2, 3)"
        )
        self.pause = statement("pause", _PAUSE)
        self.end_pause = statement("end_pause", _END_PAUSE)
        self.drain = statement("drain", _DRAIN)
        self.end_drain = statement("end_drain", _END_DRAIN)
        self.bind = statement("bind", _BIND)
        self.unbind = statement("unbind", _UNBIND)
        self.bindings = statement("bindings", _BINDINGS, TEXT, TEXT)
        self.depth = statement("depth", _DEPTH, INT8, INT8, INT8, INT8, FLOAT8)
        self.types = statement("types", _TYPES, TEXT)
        self.position = statement("position", _POSITION, INT8)
        self.advance = statement("advance", _ADVANCE, INT8)
        self.history = statement("history", _HISTORY, *_HISTORY_TYPES, of="true")
        self.history_of = statement("history_of", _HISTORY, *_HISTORY_TYPES, of="type = $2::text")
        self.notify = statement("notify", _NOTIFY)
