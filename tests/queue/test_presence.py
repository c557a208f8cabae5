import os
import shutil
from pathlib import Path

from evserve.queue.sqlite import SQLiteStore
from tests.queue.test_sqlite import Reopening


def _forbidden(path):
    raise PermissionError(13, "Permission denied", str(path))


class PresenceTests(Reopening):
    """Whoever deletes the file of a running server must not have events put into nowhere."""

    def setUp(self):
        super().setUp()
        self.rig, self.client = self.open()
        self.client.put()
        presence = self.stores[0]._presence
        self.now = presence._looked = presence.now()
        presence.now = lambda: self.now

    def check_refused(self):
        self.client.put()
        self.now += 1
        reply = self.client.ask(b"put 0 0 1 0\r\n\r\n")
        self.assertEqual(reply, b"INTERNAL_ERROR\r\n")
        self.assertIn(b"FOUND 1 ", self.client.ask(b"peek 1\r\n"))
        self.flushLoggedErrors()

    def test_a_store_that_was_deleted_takes_nothing(self):
        shutil.rmtree(self.path.parent)
        self.check_refused()

    def test_a_store_that_was_replaced_takes_nothing(self):
        other = self.path.with_name("other")
        other.write_bytes(self.path.read_bytes())
        other.rename(self.path)
        self.check_refused()

    def test_a_store_that_cannot_be_seen_is_written_to(self):
        self.patch(Path, "stat", _forbidden)
        self.now += 1
        self.client.put()

    def test_a_store_stays_where_it_is_when_the_process_goes_elsewhere(self):
        self.addCleanup(os.chdir, Path.cwd())
        os.chdir(self.path.parent)
        store = SQLiteStore.open(Path("relative.db"))
        self.stores.append(store)
        os.chdir("/")
        presence = store._presence
        later = presence.now() + 1
        presence.now = lambda: later
        self.assertFalse(presence.is_lost())
        store.tidy()

    def test_a_store_that_stays_is_written_to(self):
        for _ in range(3):
            self.now += 1
            self.client.put()
