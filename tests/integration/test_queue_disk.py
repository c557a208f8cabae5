"""A full disk: puts are refused, other commands work, and free space is enough to recover."""

import contextlib
import os
import resource
import shutil
import subprocess
from pathlib import Path
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.queue_server import QueueServer


BODY = bytes(4000)


class DiskTests(SynchronousTestCase):
    def fill(self, client):
        """Put until a put is refused; return the ids."""
        ids = []
        while len(ids) < 5000:
            event_id = client.put(BODY)
            if event_id == b"OUT_OF_MEMORY":
                return ids
            ids.append(event_id)
        raise AssertionError("the disk did not fill up")

    def check(self, server, free_space, store):
        with server.connect() as client:
            ids = self.fill(client)
            self.assertGreater(len(ids), 20)
            self.assertEqual(client.put(BODY), b"OUT_OF_MEMORY")
            self.assertEqual(client.word(b"reserve-with-timeout 0"), b"RESERVED")
            self.assertEqual(client.word(b"peek %d" % ids[-1]), b"FOUND")
            deleted = {each for each in ids[:10] if client.word(b"delete %d" % each) == b"DELETED"}
            free_space(server)
            more = [client.put(BODY) for _ in range(20)]
            self.assertTrue(all(isinstance(each, int) for each in more), more)
        server.kill()
        server = QueueServer(self, "--store", store)
        with server.connect() as client:
            for event_id in (*ids, *more):
                found = client.word(b"peek %d" % event_id) == b"FOUND"
                self.assertEqual(found, event_id not in deleted)
        server.kill()
        return deleted

    def small_disk(self, size):
        """Mount a file system of `size`, such as "6m"; return its folder."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        if shutil.which("mount") is None:
            raise SkipTest("mount is not installed")
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
        if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
            raise SkipTest("only root can mount a file system")
        self.addCleanup(subprocess.run, ["umount", "-l", str(folder)], check=True)
        return folder

    def work_off(self, size, disk="16m"):
        """Fill a disk, delete every event one by one, and put again."""
        folder = self.small_disk(disk)
        server = QueueServer(self, "--store", folder / "queue.db")
        body = bytes(size)
        with server.connect() as client:
            full = 0
            while full < 3:
                full += client.put(body) == b"OUT_OF_MEMORY"
            ready = int(client.stats()[b"current-jobs-ready"])
            self.assertGreater(ready * size, 2_000_000)
            for _ in range(ready):
                words, _ = client.ask(b"reserve-with-timeout 0")
                self.assertEqual(client.word(b"delete " + words[1]), b"DELETED")
            self.assertEqual(client.word(b"reserve-with-timeout 0"), b"TIMED_OUT")
            for _ in range(ready // 2):
                self.assertIsInstance(client.put(body), int)

    def test_small_events_can_be_worked_off(self):
        self.work_off(300, "6m")

    def test_events_of_more_than_a_page_can_be_worked_off(self):
        self.work_off(5000)

    def test_large_events_can_be_worked_off(self):
        self.work_off(60000)

    def test_many_deletes_in_one_commit(self):
        folder = self.small_disk("6m")
        server = QueueServer(self, "--store", folder / "queue.db")
        with server.connect() as client:
            ids = self.fill(client)
            client.send(b"".join(b"delete %d\r\n" % each for each in ids[::2] + ids[1::2]))
            self.assertEqual({client.reply()[0][0] for _ in ids}, {b"DELETED"})

    def test_a_killed_server_starts_on_a_full_disk(self):
        folder = self.small_disk("16m")
        server = QueueServer(self, "--store", folder / "queue.db")
        with server.connect() as client:
            ids = [client.put(BODY) for _ in range(20)]
        with (folder / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(4096))
        server.kill()
        server = QueueServer(self, "--store", folder / "queue.db")
        with server.connect() as client:
            self.assertEqual({client.word(b"delete %d" % each) for each in ids}, {b"DELETED"})

    def test_a_full_disk_without_a_reserve_is_the_reason_why_a_server_does_not_start(self):
        folder = self.small_disk("1m")
        (folder / "filler").write_bytes(bytes(1 << 20))
        with self.assertRaises(AssertionError) as caught:
            QueueServer(self, "--store", folder / "queue.db")
        self.assertIn("its disk is full: free some space", str(caught.exception))

    def test_a_small_file_system(self):
        folder = self.small_disk("6m")
        filler = folder / "filler"
        filler.write_bytes(bytes(2_000_000))
        store = folder / "queue.db"
        server = QueueServer(self, "--store", store)
        deleted = self.check(server, lambda _: filler.unlink(), store)
        self.assertEqual(len(deleted), 10)

    def test_a_limit_on_the_size_of_files(self):
        """Like a quota: writes fail with an errno that SQLite does not pass on."""
        store = Path(self.mktemp()).absolute()
        most = 1_000_000

        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))

        def free_space(server):
            unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, unlimited)

        server = QueueServer(self, "--store", store, prepare=limit)
        self.check(server, free_space, store)
