"""The SQLite file: its tables, its pragmas, and opening it so that every refusal is one line."""

import fcntl
import os
import sqlite3
from pathlib import Path
from typing import Final

from evserve.queue.store import StoreError


# "evsq" in ASCII; SQLite keeps it in the file's header, where file(1) and we can see it.
APPLICATION_ID: Final = 0x65767371
SCHEMA_VERSION: Final = 1

# The body comes last, so a pass over the index does not read the overflow pages of large bodies.
# No id comes twice, not even that of a deleted event: `next_id` is beyond all that were given. It
# is moved by thousands, because AUTOINCREMENT would write a page of its own with every commit.
TABLES: Final = """
CREATE TABLE event (
    id INTEGER PRIMARY KEY,
    tube TEXT NOT NULL,
    state INTEGER NOT NULL,
    pri INTEGER NOT NULL,
    delay INTEGER NOT NULL,
    ttr INTEGER NOT NULL,
    created REAL NOT NULL,
    due REAL NOT NULL,
    reserves INTEGER NOT NULL DEFAULT 0,
    timeouts INTEGER NOT NULL DEFAULT 0,
    releases INTEGER NOT NULL DEFAULT 0,
    buries INTEGER NOT NULL DEFAULT 0,
    kicks INTEGER NOT NULL DEFAULT 0,
    key TEXT,
    body BLOB NOT NULL
);
CREATE TABLE binding (
    source TEXT NOT NULL,
    target TEXT NOT NULL,
    PRIMARY KEY (source, target)
) WITHOUT ROWID;
CREATE TABLE next_id (value INTEGER NOT NULL);
INSERT INTO next_id VALUES (1);
"""


def connect(path: Path) -> sqlite3.Connection:
    """Open a connection that any one thread at a time may use."""
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=300
    )
    connection.execute("PRAGMA busy_timeout = 2000")
    connection.execute("PRAGMA cache_size = -8192")
    return connection


def lock(path: Path) -> int:
    """Claim the store for this process; returns the descriptor that holds the claim.

    The lock is on a file of its own: closing any other descriptor of the database would drop the
    locks SQLite has on it.
    """
    try:
        if path.exists() and not path.is_file():
            what = "a directory" if path.is_dir() else "no regular file"
            raise StoreError(f"cannot open store {path}: it is {what}")
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StoreError(f"cannot open store {path}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise StoreError(f"store {path} is in use by another server") from error
    return descriptor


def prepare(connection: sqlite3.Connection, path: Path, *, sync: str) -> None:
    """Check that the file is a store of ours, or make it one; raises StoreError, sqlite3.Error."""
    version = _pragma(connection, "user_version")
    if _pragma(connection, "schema_version") == 0:
        _create(connection)
    elif _pragma(connection, "application_id") != APPLICATION_ID:
        raise StoreError(f"cannot open store {path}: it is another program's SQLite database")
    elif version > SCHEMA_VERSION:
        raise StoreError(
            f"cannot open store {path}: it has schema version {version}, newer than this "
            f"evserve knows ({SCHEMA_VERSION}); run the evserve that wrote it"
        )
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StoreError(f"cannot open store {path}: its disk does not support WAL mode")
    connection.execute(f"PRAGMA synchronous = {sync}")
    # A write, so that a file which can only be read is refused now and not at the first put.
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _create(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.executescript(
        f"BEGIN; PRAGMA application_id = {APPLICATION_ID};"
        f"PRAGMA user_version = {SCHEMA_VERSION}; {TABLES} COMMIT;"
    )


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
