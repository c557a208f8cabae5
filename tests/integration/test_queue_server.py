"""The server as a process: bad input, slow readers, thousands of clients, signals, errors."""

import contextlib
import signal
import socket
import sqlite3
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from evserve.host.process import raise_file_limit
from tests.integration.processes import need_open_files
from tests.integration.queue_server import QueueServer


CONSUMERS = 10_000


class InputTests(SynchronousTestCase):
    def setUp(self):
        self.server = QueueServer(self)
        self.client = self.server.connect()
        self.addCleanup(self.client.close)

    def test_bad_lines_are_refused_and_the_connection_lives(self):
        for line, reply in (
            (b"use " + b"a" * 200, b"USING"),
            (b"use " + b"a" * 201, b"BAD_FORMAT"),
            (b"use b\xc3\xa9", b"BAD_FORMAT"),
            (b"delete -1", b"BAD_FORMAT"),
            (b"delete 99999999999999999999999", b"BAD_FORMAT"),
            (b"delete abc", b"BAD_FORMAT"),
            (b"stats\0", b"BAD_FORMAT"),
            (b"\xff\xfe", b"UNKNOWN_COMMAND"),
            (b"x" * 100_000, b"BAD_FORMAT"),
            (b"put 0 0 1 65536\r\n" + bytes(65536), b"JOB_TOO_BIG"),
            (b"put 0 0 1 65535\r\n" + bytes(65535), b"INSERTED"),
            (b"put 0 0 1 0\r\n", b"INSERTED"),
        ):
            self.assertEqual(self.client.word(line), reply, line[:40])

    def test_consumers_that_wait_or_work_are_not_idle(self):
        # A busy machine may take longer than the shorter time-outs to send the first bytes.
        for seconds in ("0.2", "2", "20"):
            server = QueueServer(self, "--idle-timeout", seconds)
            with contextlib.suppress(ConnectionError):
                self.assertEqual(self.outlive_a_silent_client(server), (b"1", b"DELETED", b"2"))
                return
        self.fail("a consumer was cut")

    def outlive_a_silent_client(self, server):
        waiting, working, silent = (server.connect() for _ in range(3))
        for each in (waiting, working, silent):
            self.addCleanup(each.close)
        working.ask(b"watch a")
        working.ask(b"use a")
        working.put(b"1")
        first = working.ask(b"reserve")[1]
        waiting.send(b"reserve\r\n")
        with contextlib.suppress(ConnectionError):
            silent.file.read()
        deleted = working.word(b"delete 1")
        with server.connect() as producer:
            producer.put(b"2")
        return first, deleted, waiting.reply()[1]

    def test_every_byte_alone(self):
        for byte in b"put 0 0 60 3\r\na\r\n\r\nreserve\r\n":
            self.client.send(bytes([byte]))
        self.assertEqual(self.client.reply()[0][0], b"INSERTED")
        self.assertEqual(self.client.reply()[1], b"a\r\n")

    def test_two_gigabytes_announced_take_no_memory(self):
        before = self.server.memory()
        self.client.send(b"put 0 0 1 2147483648\r\n")
        for _ in range(100):
            self.client.send(bytes(1_000_000))
        self.assertLess(self.server.memory() - before, 10_000_000)

    def test_half_a_command_then_silence_stops_no_other_client(self):
        for half in (b"pu", b"put 0 0 1 100\r\nabc", b"reserve\r", b"x" * 500):
            other = self.server.connect()
            self.addCleanup(other.close)
            other.send(half)
        self.assertEqual(self.client.put(b""), 1)

    def test_a_reserve_then_a_disconnect_at_every_stage_loses_nothing(self):
        self.client.put(b"body", ttr=1000)
        for sent in (b"res", b"reserve\r\n", b"reserve\r\nreserve\r\n", b"reserve\r\ndelete"):
            other = self.server.connect()
            other.send(sent)
            if sent.startswith(b"reserve\r\n"):
                other.reply()
            other.close()
        self.assertEqual(self.client.ask(b"reserve")[1], b"body")

    def test_a_client_that_shuts_down_its_side_gets_its_replies(self):
        self.client.send(b"put 0 0 60 1\r\nx\r\nreserve\r\ndelete 1\r\nreserve\r\n")
        self.client.socket.shutdown(socket.SHUT_WR)
        words = [self.client.reply()[0][0] for _ in range(4)]
        self.assertEqual(words, [b"INSERTED", b"RESERVED", b"DELETED", b"TIMED_OUT"])
        self.assertRaises(ConnectionError, self.client.reply)

    def test_a_client_that_does_not_read_takes_no_memory_and_stops_no_other(self):
        self.client.put(bytes(60000))
        deaf = socket.create_connection(("127.0.0.1", self.server.port))
        self.addCleanup(deaf.close)
        deaf.setblocking(False)
        before, refused = self.server.memory(), 0
        while refused < 500:
            try:
                deaf.send(b"peek 1\r\n" * 1000)
            except BlockingIOError:
                refused += 1
                self.assertEqual(self.client.word(b"peek 1"), b"FOUND")
        self.assertLess(self.server.memory() - before, 20_000_000)

    def test_ten_thousand_idle_consumers_are_served_in_order(self):
        need_open_files(CONSUMERS + 100)
        raise_file_limit()
        waiting = []
        for _ in range(CONSUMERS):
            waiting.append(socket.create_connection(("127.0.0.1", self.server.port)))
            waiting[-1].sendall(b"reserve\r\n")
        self.addCleanup(lambda: [each.close() for each in waiting])
        while self.client.stats()[b"current-waiting"] != b"%d" % CONSUMERS:
            pass
        for number in range(1, 6):
            self.client.put(b"x")
            reply = waiting[number - 1].recv(100)
            self.assertEqual(reply, b"RESERVED %d 1\r\nx\r\n" % number)


class ProcessTests(SynchronousTestCase):
    def refusal(self, *options):
        error = self.assertRaises(AssertionError, QueueServer, self, *options)
        self.assertEqual(str(error).strip().count("\n"), 0, str(error))
        self.assertNotIn("Traceback", str(error))
        return str(error)

    def test_stores_that_cannot_be_opened_are_one_line(self):
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        self.assertIn("is a directory", self.refusal("--store", folder))
        (folder / "text").write_text("text\n" * 1000)
        self.assertIn("not a database", self.refusal("--store", folder / "text"))
        QueueServer(self, "--store", folder / "held")
        self.assertIn("another process", self.refusal("--store", folder / "held"))
        newer = sqlite3.connect(folder / "newer")
        newer.execute("PRAGMA application_id = 0x65767371")
        newer.execute("PRAGMA user_version = 7")
        newer.execute("CREATE TABLE event (id)")
        newer.close()
        self.assertIn("schema version 7", self.refusal("--store", folder / "newer"))
        self.assertIn("cannot open", self.refusal("--store", "/proc/nothing/queue.db"))
        self.assertIn("--sync", self.refusal("--sync", "maybe"))

    def test_sigusr1_drains_and_sigterm_ends_with_status_0(self):
        store = Path(self.mktemp()).absolute()
        server = QueueServer(self, "--store", store, "--usr1-drains")
        with server.connect() as client:
            client.put(b"x")
            server.process.send_signal(signal.SIGUSR1)
            while client.put(b"x") != b"DRAINING":
                pass
            self.assertEqual(client.word(b"reserve"), b"RESERVED")
            client.word(b"delete 1")
        self.assertEqual(server.stop(), 0)
        left = {each.name for each in store.parent.iterdir()}
        self.assertEqual(left, {store.name, f"{store.name}.lock"})

    def test_a_delay_goes_on_while_the_server_is_down(self):
        store = Path(self.mktemp()).absolute()
        server = QueueServer(self, "--store", store)
        with server.connect() as client:
            client.put(b"soon", delay=1)
            client.put(b"late", delay=1000)
        server.kill()
        with QueueServer(self, "--store", store).connect() as client:
            self.assertEqual(client.ask(b"reserve")[1], b"soon")
            left = int(client.stats(b"stats-job 2")[b"time-left"])
            self.assertTrue(500 < left < 1000, left)
