"""One sync serves everything written before it; nothing is reported too early."""

import gc
import os
from pathlib import Path
from threading import get_ident
from types import SimpleNamespace

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from evserve.fetch.output import disk as module
from evserve.fetch.output.disk import Disk, DiskThread, sync_now
from tests.fetch.slow_disk import SlowDisk


class DiskTests(SynchronousTestCase):
    def setUp(self):
        self.slow = SlowDisk()
        self.disk = self.slow.disk

    def ask(self, name, *targets):
        self.disk.sync(*targets).addBoth(
            lambda result: self.slow.happened.append((name, getattr(result, "value", None)))
        )

    def test_requests_of_one_turn_share_a_sync(self):
        self.disk.include("/folder")
        self.ask("a", "/a")
        self.ask("b", "/b", 3)
        self.slow.sync()
        self.assertEqual(self.slow.syncing, [{"/folder", "/a", "/b", 3}])
        self.assertEqual(self.slow.happened, ["sync", ("a", None), ("b", None)])

    def test_a_request_during_a_sync_waits_for_the_next(self):
        self.ask("a", "/a")
        self.slow.turn()
        self.ask("b", "/b")
        self.slow.sync()
        self.assertEqual(self.slow.happened, ["sync", ("a", None)])
        self.slow.sync()
        self.assertEqual(self.slow.happened[2:], ["sync", ("b", None)])
        self.assertFalse(self.slow.is_syncing)

    def test_every_sync_after_a_failed_one_fails(self):
        error = OSError(5, "Input/output error")
        self.ask("a")
        self.slow.sync(error)
        self.ask("b")
        self.slow.sync()
        self.assertEqual(self.slow.happened, ["sync", ("a", error), "sync", ("b", error)])

    def test_any_exception_of_a_sync_becomes_an_oserror(self):
        self.ask("a")
        self.slow.sync(ValueError("strange"))
        self.assertIn("strange", str(self.slow.happened[1][1]))

    def test_a_callback_that_fails_does_not_affect_the_others(self):
        self.disk.sync().addCallback(lambda _: 1 / 0)
        self.ask("a")
        self.slow.sync()
        self.ask("b")
        self.slow.sync()
        self.assertEqual(self.slow.happened, ["sync", ("a", None), "sync", ("b", None)])
        gc.collect()  # a Deferred that nothing handles logs its failure when it goes
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_flush_waits_for_callbacks_that_sync_again(self):
        self.disk.sync().addCallback(lambda _: self.ask("late"))
        flushed = Deferred.fromCoroutine(self.disk.flush())
        self.slow.sync()
        self.assertNoResult(flushed)
        self.slow.sync()
        self.successResultOf(flushed)
        self.assertEqual(self.slow.happened, ["sync", "sync", ("late", None)])


def name_of(descriptor):
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())


class SyncTests(SynchronousTestCase):
    """What is asked of the kernel."""

    def setUp(self):
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.paths = [self.folder / f"{number}" for number in range(20)]
        for path in self.paths:
            path.write_bytes(b"x")
        self.synced, self.systems = [], []
        self.patch(os, "fsync", lambda fd: self.synced.append(name_of(fd)))
        self.patch(module, "_syncfs", lambda fd: self.systems.append(os.fstat(fd).st_dev))

    def test_a_few_files_are_synced_one_by_one(self):
        sync_now(map(str, [self.folder, *self.paths[:2]]))
        self.assertEqual(sorted(self.synced), sorted(map(str, [self.folder, *self.paths[:2]])))

    def test_a_descriptor_is_synced_directly(self):
        with self.paths[0].open("rb") as file:
            sync_now([file.fileno()])
        self.assertEqual(self.synced, [str(self.paths[0])])

    def test_many_files_are_synced_by_file_system(self):
        with self.paths[0].open("rb") as file:
            sync_now([*map(str, self.paths), file.fileno()])
        self.assertEqual((self.synced, self.systems), ([], [self.folder.stat().st_dev]))

    def test_a_path_that_does_not_exist_is_skipped(self):
        self.paths[0].unlink()
        sync_now(map(str, self.paths[:2]))
        self.assertEqual(self.synced, [str(self.paths[1])])


class KernelTests(SynchronousTestCase):
    def test_a_file_system_without_fsync_is_skipped(self):
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        self.addCleanup(os.close, writer)
        sync_now([writer])

    def test_a_failed_fsync_names_the_file(self):
        def broken(descriptor):
            raise OSError(5, "Input/output error")

        self.patch(os, "fsync", broken)
        path = str(Path(__file__).absolute())
        with Path(path).open("rb") as file:
            for place in (path, file.fileno()):
                error = self.assertRaises(OSError, sync_now, [place])
                self.assertEqual(error.filename, path)

    def test_an_unreadable_folder_is_synced_with_sync(self):
        def refused(*_):
            raise PermissionError(13, "Permission denied")

        called = []
        self.patch(os, "open", refused)
        self.patch(os, "sync", lambda: called.append(True))
        sync_now(["/drop"])
        self.assertEqual(called, [True])

    def test_a_file_system_is_synced(self):
        folder = os.open(".", os.O_RDONLY)
        self.addCleanup(os.close, folder)
        module._syncfs(folder)

    def test_a_failed_syncfs_is_an_oserror(self):
        error = self.assertRaises(OSError, module._syncfs, 10_000)
        self.assertEqual(error.strerror, "Bad file descriptor")

    def test_without_syncfs_everything_is_synced(self):
        called = []
        self.patch(module, "_libc", object())
        self.patch(os, "sync", lambda: called.append(True))
        module._syncfs(0)
        self.assertEqual(called, [True])


class ThreadTests(TestCase):
    def start_thread(self):
        # Not to be stopped twice: with `trial -j`, the reactor's shutdown comes after every test.
        calls = SimpleNamespace(
            callFromThread=reactor.callFromThread, addSystemEventTrigger=lambda *_: None
        )
        thread = DiskThread(calls)
        self.addCleanup(thread._pool.stop)
        return thread

    async def test_calls_run_in_a_thread_of_their_own(self):
        thread = self.start_thread()
        first, second = await thread(get_ident), await thread(get_ident)
        self.assertEqual(first, second)
        self.assertNotEqual(first, get_ident())

    async def test_a_disk_syncs_in_a_thread(self):
        thread = self.start_thread()
        path = Path(self.mktemp())
        path.write_bytes(b"x")
        disk = Disk(reactor, thread)
        disk.include(str(path))
        await disk.flush()
