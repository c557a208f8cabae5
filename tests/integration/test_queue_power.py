"""A power cut loses nothing that was promised, because a sync comes before each promise."""

import random
import re
import shutil
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.queue_load import ClientRecord, load_then_kill
from tests.integration.queue_server import QueueServer, compile_shim


class PowerTests(SynchronousTestCase):
    def setUp(self):
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)
        self.shim = compile_shim(self.folder)

    def cut(self, sync, promises):
        """Kill the server after some promises; return the synced store and the clients' record."""
        disk, synced = self.folder / "disk", self.folder / "synced"
        for each in (disk, synced):
            shutil.rmtree(each, ignore_errors=True)
            each.mkdir()
        env = {"LD_PRELOAD": str(self.shim), "SHIM_FROM": f"{disk}/", "SHIM_TO": str(synced)}
        server = QueueServer(self, "--store", disk / "q.db", "--sync", sync, env=env)
        record = ClientRecord()
        load_then_kill(server, record, promises, "cut")
        return synced / "q.db", record

    def missing(self, path, record):
        """Return the broken promises: puts that are gone, deleted events that are back."""
        server = QueueServer(self, "--store", path)
        with server.connect() as client:
            certain = record.alive.keys() - record.unsure
            gone = {each for each in certain if client.word(b"peek %d" % each) != b"FOUND"}
            back = {each for each in record.deleted if client.word(b"peek %d" % each) == b"FOUND"}
        server.kill()
        return gone, back

    def test_what_was_promised_survives_a_power_cut(self):
        for seed in range(3):
            path, record = self.cut("full", random.Random(seed).randint(100, 1000))
            self.assertGreater(len(record.alive), 20)
            self.assertEqual(self.missing(path, record), (set(), set()))

    def test_this_test_would_see_a_sync_that_is_missing(self):
        path, record = self.cut("normal", 50)  # before the first checkpoint, which syncs
        gone, _ = self.missing(path, record)
        self.assertNotEqual(gone, set())

    def test_a_sync_comes_before_each_promise(self):
        log = self.folder / "log"
        env = {"LD_PRELOAD": str(self.shim), "SHIM_LOG": str(log)}
        server = QueueServer(self, "--store", self.folder / "q.db", env=env)
        with server.connect() as client:
            for _ in range(3):
                event_id = client.put(b"body")
                for command in (
                    *(b"reserve", b"touch %d", b"release %d 1 0", b"reserve", b"release %d 1 99"),
                    *(b"kick-job %d", b"reserve", b"bury %d 1", b"kick 1", b"delete %d"),
                ):
                    client.ask(command.replace(b"%d", b"%d" % event_id))
            client.ask(b"bind a b")
            client.ask(b"put-key k 0 0 1 1\r\nx")
            client.ask(b"truncate default")
        promises, synced = 0, False
        for line in log.read_text().splitlines():
            what, _, text = line.partition(" ")
            if what == "recv":
                synced = False
            elif what == "sync":
                synced = True
            elif re.match(PROMISE, text):
                promises += 1
                self.assertTrue(synced, text)
        self.assertEqual(promises, 3 * 8 + 3)


PROMISE = "(INSERTED|DELETED|RELEASED|BURIED|TOUCHED|KICKED|BOUND|TRUNCATED)"
