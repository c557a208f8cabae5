"""Files that must survive a power cut: synced before they have their names."""

from twisted.internet.defer import fail

from evserve.fetch.memory import Page
from evserve.fetch.sinks.warc import Archive
from tests.fetch.sinks.file_case import Case
from tests.fetch.slow_disk import SlowDisk


class DurableTests(Case):
    """With a disk that is synced, a file has its name only when its bytes are there for good."""

    def setUp(self):
        super().setUp()
        self.slow = SlowDisk()
        self.world_ = self.world({"http://a/x": Page(b"hello")}, disk=self.slow.disk)
        self.world_.start("http://a/x")
        self.world_.run(1)

    def names(self):
        return [path.suffix for path in self.files()]

    def test_the_sync_comes_before_the_name_and_the_name_before_the_result(self):
        self.assertTrue(self.slow.is_syncing)
        self.assertEqual((self.names(), self.world_.results), ([".part"], []))
        (part,) = self.files()
        # New folders are synced as well, and so is a folder with a new name in it.
        self.assertEqual(self.slow.syncing, [{str(part), str(self.folder)}])
        self.slow.sync()
        self.assertEqual(self.names(), [""])
        self.assertIsNone(self.world_.results[0].error)
        self.slow.disk.idle()
        self.slow.turn()
        self.assertEqual(self.slow.syncing[-1], {str(part.parent)})

    def test_a_sync_that_fails_fails_the_url(self):
        self.slow.sync(OSError(5, "Input/output error"))
        self.assertEqual(self.names(), [".part"])
        self.assertEqual(self.world_.results[0].error, "SaveFailed: Input/output error")

    def test_a_name_that_is_taken_fails_the_url(self):
        (part,) = self.files()
        part.with_suffix("").mkdir()
        self.slow.sync()
        self.assertIn("SaveFailed: Is a directory", self.world_.results[0].error)
        self.assertEqual(self.files(), [])

    def test_the_same_url_meanwhile_writes_elsewhere(self):
        self.slow.turn()
        self.world_.start("http://a/x")
        self.world_.run(1)
        self.assertEqual(len(self.files()), 2)
        self.slow.sync()
        self.slow.sync()
        self.assertEqual((self.names(), len(self.world_.results)), ([""], 2))

    def test_an_archive_and_a_file_are_both_waited_for(self):
        self.slow.sync()
        archive = Archive(self.folder / "x.warc", lambda *_: fail(OSError(28, "full")), "bot")
        self.world_.fetcher.stores.append(archive)
        self.world_.start("http://a/x")
        self.world_.run(1)
        self.assertEqual(self.world_.results[1].error, "SaveFailed: full")
        self.slow.sync()
