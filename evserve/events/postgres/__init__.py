"""The engine for `postgresql://`: a queue in a database, shared by any number of processes.

engine.py      PostgresQueue, the EventQueue
verbs.py       what producers and consumers ask: arguments into arrays, rows into answers
commit.py      group commit: the calls of all verbs that arrive during a commit share the next one
waits.py       the calls of `reserve` that wait, and who gets what was found
calls.py       calls that wait to be sent
statements.py  the SQL
schema.py      the tables, the function `put` for SQL, and migrations
session.py     connecting, again with back-off, and the locks that show that an engine lives
connection.py  libpq's pipeline mode on the reactor
transactions.py  what a handler writes, and its event, in one commit; psycopg's connections
values.py      arrays and rows in binary
errors.py      from SQLSTATE to a QueueError

A `put`: PostgresQueue.put checks the event and makes a Call; GroupCommit gathers calls until the
commit before is answered; a batch makes one statement of each verb's calls and asks for those who
wait; Connection.send pipelines it; the commit's answer fires the callers' Deferreds.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote


try:
    from psycopg import OperationalError
    from psycopg.pq import Conninfo
except ImportError as error:
    raise ImportError("psycopg is missing (pip install 'evserve[postgres]')") from error

from evserve.events.engines import QueueURL
from evserve.events.errors import BadQueueURL
from evserve.events.event_queue import EventQueue
from evserve.events.postgres.engine import PostgresQueue
from evserve.events.postgres.schema import DEFAULT_SCHEMA, check_schema


__all__ = ["PostgresQueue", "open_engine"]

_DEFAULTS = {
    "connect_timeout": "5",
    "fallback_application_name": "evserve",
    # A network that swallows everything is noticed within 10 seconds.
    "keepalives_idle": "4",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}

_EXPECTED = (
    "the postgresql:// URL is not valid: "
    "postgresql://USER:PASSWORD@HOST:PORT/DATABASE?OPTION=VALUE is expected (in names and the "
    "password, write @ : / ? # and % as %40 %3A %2F %3F %23 and %25)"
)


def open_engine(url: QueueURL, reactor: Any) -> EventQueue:
    """Return the queue at `url`, which connects when the first call needs it."""
    conninfo, schema, where = parse_url(url.text)
    return PostgresQueue(conninfo, schema, where, reactor)


def parse_url(text: str, defaults: Mapping[str, str] = _DEFAULTS) -> tuple[str, str, str]:
    """Return what libpq gets, the schema, and a name of the database without its password.

    defaults: options of libpq that hold unless the URL has them.  Raises BadQueueURL, whose
    message has no part of the URL that may be of the password.
    """
    rest, _, query = text.partition("?")
    schema, options = DEFAULT_SCHEMA, []
    for each in query.split("&") if query else []:
        name, _, value = each.partition("=")
        if name == "schema":
            schema = check_schema(unquote(value))
        else:
            options.append(each)
    given = {name for name, _ in parse_qsl("&".join(options), keep_blank_values=True)}
    options += [f"{name}={value}" for name, value in defaults.items() if name not in given]
    conninfo = f"{rest}?{'&'.join(options)}"
    # An @ or a / in a password as it is would make parts of it the host or the database.
    user = rest.partition("//")[2].rpartition("@")[0]
    if "@" in user or "/" in user:
        raise BadQueueURL(_EXPECTED)
    try:
        parsed = Conninfo.parse(conninfo.encode())
        found = {each.keyword.decode(): each.val.decode() for each in parsed if each.val}
        host = found.get("host", found.get("hostaddr", ""))
        for each in host.split(","):
            if not each.startswith("/"):
                each.encode("idna")  # as it is looked up
        for each in (*found.get("port", "").split(","), found.get("connect_timeout", "")):
            int(each or 0)
    except (OperationalError, ValueError):
        raise BadQueueURL(_EXPECTED) from None
    return conninfo, schema, f"the queue at postgresql://{host}/{found.get('dbname', '')}"
