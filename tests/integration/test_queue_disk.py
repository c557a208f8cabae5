"""A full disk: puts are refused, other commands work, and free space is enough to recover."""

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

    def test_a_small_file_system(self):
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        if shutil.which("mount") is None:
            raise SkipTest("mount is not installed")
        mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "none", str(folder)]
        if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
            raise SkipTest("only root can mount a file system")
        self.addCleanup(subprocess.run, ["umount", "-l", str(folder)], check=True)
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
