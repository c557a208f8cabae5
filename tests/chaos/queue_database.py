"""What a scenario asks the database itself about the queue in it, and about its handlers."""

from collections import Counter


def is_empty(cluster, database):
    """Return whether the queue has no events, in any state."""
    return cluster.query("SELECT NOT EXISTS (SELECT FROM evserve.event)", database=database)[0][0]


def entries_read(cluster, database):
    """Return how many entries of the index of ready events were read so far."""
    statement = "SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'event_ready'"
    return cluster.query(statement, database=database)[0][0]


def make_effects(cluster, database):
    """Make the table in which handlers write a row for each event."""
    cluster.query("CREATE TABLE effect (body text)", database=database)


def effects(cluster, database):
    """Count the rows that handlers wrote, by body."""
    return Counter(body for (body,) in cluster.query("SELECT body FROM effect", database=database))
