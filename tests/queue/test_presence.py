import shutil

from tests.queue.test_sqlite import Reopening


class PresenceTests(Reopening):
    """Whoever deletes the file of a running server must not have events put into nowhere."""

    def setUp(self):
        super().setUp()
        self.rig, self.client = self.open()
        self.client.put()
        self.now = self.stores[0]._presence.now()
        self.stores[0]._presence.now = lambda: self.now

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

    def test_a_store_that_stays_is_written_to(self):
        for _ in range(3):
            self.now += 1
            self.client.put()
