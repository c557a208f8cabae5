"""Somebody else's transaction stays open, so that no dead row can be removed."""

import time

from twisted.trial.unittest import SynchronousTestCase

from tests.chaos import ROUNDS, SEED
from tests.chaos.queue_database import entries_read, is_empty
from tests.chaos.workload import Workload
from tests.integration.postgres import shared_cluster


EVENTS = 500 + 50 * min(ROUNDS, 50)
MANY = 100  # entries read for an event; it takes one or two where no dead rows are in the way


class LongTransactionTests(SynchronousTestCase):
    def test_dead_rows_are_in_the_way_no_longer_than_the_transaction(self):
        cluster = shared_cluster()
        database = cluster.create_database()
        load = Workload(self, cluster.url(database), "--pace", 0)

        def measure():
            """Return events a second, and entries of the index that were read for each."""
            read, start = entries_read(cluster, database), time.monotonic()
            load.wait_for(2 * EVENTS)  # a put and an acknowledgement each
            read = entries_read(cluster, database) - read
            return EVENTS / (time.monotonic() - start), read / EVENTS

        before, _ = measure()
        with cluster.connect(database) as somebody:
            somebody.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            somebody.execute("SELECT count(*) FROM evserve.event")
            measured = []

            def many_are_read():
                measured.append(measure())
                return measured[-1][1] > MANY

            load.wait_until(many_are_read)  # not at once, because statistics come late
        during, entries = measured[-1]
        rates = []

        def few_are_read():
            after, fewer = measure()
            rates.append(after)
            return fewer < entries / 5

        load.wait_until(few_are_read)  # not at once, as above
        load.finish(lambda: is_empty(cluster, database))
        load.check()
        print(
            f"seed {SEED}, a transaction that stays open for {2 * EVENTS} events: {before:.0f} "
            f"events/s before, {during:.0f} during, {rates[-1]:.0f} after it; {load.summary()}"
        )
