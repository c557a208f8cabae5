"""Rows in files, and lines in pipes: only a thread waits for a reader."""

import errno
import io
import os
import socket
import threading
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from evserve.fetch.output.rows import BackgroundWriter, DirectWriter, RowFile, line_writer


class Turns(Clock):
    """A reactor whose turns a test takes itself."""

    def __init__(self):
        super().__init__()
        self.calls = []
        self.has_call = threading.Event()

    def callFromThread(self, function, *arguments):
        self.calls.append((function, arguments))
        self.has_call.set()

    def turn(self):
        """Wait for the next call of a thread, and make it."""
        assert self.has_call.wait(60)
        self.has_call.clear()
        calls, self.calls = self.calls, []
        for function, arguments in calls:
            function(*arguments)


class Slow:
    """Takes three bytes at a time."""

    def __init__(self):
        self.got = b""

    def write(self, data):
        self.got += bytes(data[:3])
        return len(data[:3])


class DirectWriterTests(SynchronousTestCase):
    def setUp(self):
        self.told = []

    def test_a_direct_writer_writes_at_once(self):
        out = Slow()
        DirectWriter(out).write(b"ten bytes.", self.told.append)
        self.assertEqual((out.got, self.told), (b"ten bytes.", [None]))

    def test_an_error_names_the_file(self):
        with Path("/dev/full").open("wb", buffering=0) as full:
            DirectWriter(full, "rows.jsonl").write(b"x", self.told.append)
        self.assertEqual((self.told[0].errno, self.told[0].filename), (errno.ENOSPC, "rows.jsonl"))


class BackgroundWriterTests(SynchronousTestCase):
    def setUp(self):
        self.told = []
        self.reactor = Turns()
        reading, writing = os.pipe()
        self.reader = os.fdopen(reading, "rb", buffering=0)
        self.addCleanup(self.reader.close)
        self.out = os.fdopen(writing, "wb", buffering=0)
        self.pipe = line_writer(self.out, self.reactor)
        self.addCleanup(self.pipe.close)

    def write(self, data, name=None):
        self.pipe.write(data, lambda error: self.told.append((name or data, error)))

    def test_on_done_is_called_after_a_write(self):
        self.write(b"one")
        self.assertEqual(self.told, [])
        self.reactor.turn()
        self.assertEqual((self.told, self.reader.read(9)), ([(b"one", None)], b"one"))

    def test_a_slow_reader_blocks_nothing_and_loses_nothing(self):
        long = bytes(range(256)) * 4096  # more than a pipe takes
        self.write(long, "long")
        self.write(b"one", "one")
        self.write(b"two", "two")
        self.assertEqual(self.told, [])
        read = b""
        while len(read) < len(long):
            read += self.reader.read(65536)
        self.reactor.turn()
        self.assertEqual(self.told, [("long", None)])
        self.reactor.turn()
        self.assertEqual(self.told[1:], [("one", None), ("two", None)])
        self.assertEqual(read + self.reader.read(9), long + b"onetwo")

    def test_a_closed_pipe_fails_all_further_writes(self):
        self.reader.close()
        self.write(b"one")
        self.write(b"two")
        self.reactor.turn()
        self.write(b"three")
        self.assertEqual([name for name, _ in self.told], [b"one", b"two", b"three"])
        for _, error in self.told:
            self.assertEqual((error.errno, error.filename), (errno.EPIPE, "standard output"))

    def test_abandon_fails_pending_writes_without_waiting_for_the_thread(self):
        self.write(bytes(1024 * 1024), "long")
        self.write(b"x", "short")
        self.pipe.abandon()
        self.assertEqual(
            [(name, error.errno) for name, error in self.told], [("long", 32), ("short", 32)]
        )
        self.reader.close()  # only now does the thread come back
        self.reactor.turn()
        self.assertEqual(len(self.told), 2)

    def test_a_write_from_within_on_done_is_last(self):
        self.pipe.write(b"1", lambda _: self.write(b"3"))
        self.write(b"2")
        for _ in range(3):
            self.reactor.turn()
        self.assertEqual(self.reader.read(9), b"123")


class KindTests(SynchronousTestCase):
    def test_pipes_and_sockets_have_a_thread_and_files_have_none(self):
        ours, theirs = socket.socketpair()
        self.addCleanup(theirs.close)
        path = Path(self.mktemp())
        with ours, ours.makefile("wb", buffering=0) as out, path.open("wb", buffering=0) as file:
            self.assertIsInstance(line_writer(out, Turns()), BackgroundWriter)
            self.assertIsInstance(line_writer(file, Turns()), DirectWriter)
        with Path("/dev/null").open("wb", buffering=0) as null:
            self.assertIsInstance(line_writer(null, Turns()), DirectWriter)
        self.assertRaises(io.UnsupportedOperation, line_writer, io.BytesIO(), Turns())


class RowFileTests(SynchronousTestCase):
    def open(self, path, end=0):
        rows = RowFile.open(path, Clock(), end)
        self.addCleanup(rows.writer.close)
        return rows

    def write(self, rows, line):
        rows.writer.write(rows.encode(line), self.assertIsNone)

    def test_rows_are_appended_after_the_end(self):
        path = Path(self.mktemp())
        rows = self.open(path)
        self.write(rows, "one")
        end = rows.size
        self.write(rows, "torn")
        rows.writer.close()
        self.write(self.open(path, end), "two")
        self.assertEqual(path.read_text(), "one\ntwo\n")

    def test_a_removed_file_is_created_again(self):
        path = Path(self.mktemp())
        rows = self.open(path, 100)
        self.write(rows, "one")
        self.assertEqual((path.read_text(), rows.size), ("one\n", 4))

    def test_a_shortened_file_continues_at_its_end(self):
        for text, expected in (("one\n", "one\ntwo\n"), ("on", "on\ntwo\n")):
            self.assertEqual(self.appended(text, 100), expected)

    def test_an_unknown_file_is_appended_to(self):
        for text, expected in (("", "two\n"), ("one\n", "one\ntwo\n"), ("on", "on\ntwo\n")):
            self.assertEqual(self.appended(text, None), expected)

    def appended(self, text, end):
        path = Path(self.mktemp())
        path.write_text(text)
        rows = self.open(path, end)
        self.write(rows, "two")
        self.assertEqual(rows.size, path.stat().st_size)
        return path.read_text()

    def test_two_do_not_write_to_one_file(self):
        path = Path(self.mktemp())
        self.write(self.open(path), "one")
        error = self.assertRaises(OSError, self.open, path)
        self.assertEqual((error.strerror, error.filename), ("already being written to", str(path)))
        self.assertEqual(path.read_text(), "one\n")

    def test_a_disk_that_is_full_is_named(self):
        told = []
        self.open(Path("/dev/full")).writer.write(b"one\n", told.append)
        self.assertEqual(told[0].filename, "/dev/full")
