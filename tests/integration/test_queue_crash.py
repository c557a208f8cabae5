"""kill -9 and backups under load: no acknowledged put is lost, no deleted event is back."""

import contextlib
import os
import random
import sqlite3
import threading
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.postgres import fresh_database
from tests.integration.queue_load import (
    ClientRecord,
    check,
    check_bodies,
    load,
    load_then_kill,
)
from tests.integration.queue_server import QueueServer


# Rounds of each of LANES, which run in parallel, each with its own store. CI runs all of them
# once, and fewer when it runs the tests again with another runner or reactor.
ROUNDS = int(os.environ.get("EVSERVE_CRASH_ROUNDS", "25"))
LANES = 2


class BackupTests(SynchronousTestCase):
    def test_a_backup_under_load_is_whole(self):
        folder = Path(self.mktemp())
        folder.mkdir()
        server, record = QueueServer(self, "--store", folder / "queue.db"), ClientRecord()
        kept, gone = {}, set()

        def back_up():
            record.wait_for(200)
            with record.changed:
                kept.update(record.alive)
                gone.update(record.deleted)
            with contextlib.closing(sqlite3.connect(folder / "queue.db")) as store:
                store.execute("VACUUM INTO ?", (str(folder / "backup.db"),))
            record.wait_for(record.promises + 100)

        load(server, record, "load", back_up)
        for event_id in record.deleted | record.unsure:
            kept.pop(event_id, None)  # it may have been deleted before the backup began
        self.assertGreater(len(kept), 20)
        server = QueueServer(self, "--store", folder / "backup.db")
        with server.connect() as client:
            for event_id, body in kept.items():
                self.assertEqual(client.ask(b"peek %d" % event_id)[1], body)
            for event_id in gone:
                self.assertEqual(client.word(b"peek %d" % event_id), b"NOT_FOUND")
            self.assertGreater(client.put(b"new"), max(kept))


class CrashTests(SynchronousTestCase):
    rounds = ROUNDS

    def store(self):
        return Path(self.mktemp())

    def test_kill_at_any_moment(self):
        failures = []

        def lane(number, store):
            try:
                self.lane(store, random.Random(number))
            except BaseException as error:
                failures.append(error)
                raise

        threads = [
            threading.Thread(target=lane, args=(number, self.store())) for number in range(LANES)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])

    def lane(self, store, chance):
        record = ClientRecord()
        for round_number in range(self.rounds + 1):
            server = QueueServer(self, "--store", store)
            check(self, server, record)
            if round_number == self.rounds:
                check_bodies(self, server, record)
            else:
                load_then_kill(server, record, chance.randint(1, 120), f"{round_number}")


class PostgresCrashTests(CrashTests):
    rounds = max(5, ROUNDS // 5)  # fewer delete too little

    def store(self):
        return fresh_database()
