"""WARC files, written from a network in memory and read by warcio."""

import gzip
import os
import resource
from pathlib import Path
from types import SimpleNamespace

from twisted.internet.defer import Deferred, execute, fail
from twisted.trial.unittest import SynchronousTestCase
from warcio.archiveiterator import ArchiveIterator
from warcio.checker import Checker

from evserve.fetch.errors import error_text
from evserve.fetch.output.warc import WARCSink, complete_records_size
from evserve.fetch.testing import Page
from evserve.http.errors import TruncatedBody
from tests.fetch.memory_world import World, redirect


def at_once(function, *arguments):
    return execute(function, *arguments)


class WARCSinkTests(SynchronousTestCase):
    def setUp(self):
        self.folder = Path(self.mktemp())

    def archive(self, name, in_thread=at_once, **more):
        self.path = self.folder / name
        self.folder.mkdir(exist_ok=True)
        return WARCSink(self.path, in_thread, "testbot", **more)

    def records(self):
        with self.path.open("rb") as stream:
            return [
                (
                    record.rec_type,
                    record.rec_headers.get_header("WARC-Target-URI"),
                    record.content_stream().read(),
                )
                for record in ArchiveIterator(stream)
            ]

    def assert_valid(self):
        class Command:
            inputs = (str(self.path),)
            verbose = False

        checker = Checker(Command())
        checker.process_all()
        self.assertFalse(checker.exit_value)

    def test_requests_and_responses_are_recorded(self):
        for name in ("x.warc", "x.warc.gz"):
            archive = self.archive(name)
            world = World(
                {"http://a/": redirect("/x"), "http://a/x": Page(b"hello")}, sinks=[archive]
            )
            self.assertIsNone(world.fetch("http://a/").error)
            self.successResultOf(archive.close())
            self.assertEqual(
                [record for record in self.records() if record[0] == "response"],
                [("response", "http://a/", b""), ("response", "http://a/x", b"hello")],
            )
            self.assertEqual(
                [kind for kind, *_ in self.records()],
                ["warcinfo", "response", "request", "response", "request"],
            )
            self.assert_valid()

    def test_a_chunked_body_is_recorded_without_its_chunks(self):
        archive = self.archive("x.warc")
        page = Page(b"hello", headers=((b"Transfer-Encoding", b"chunked"),))
        World({"http://a/": page}, sinks=[archive]).fetch("http://a/")
        self.successResultOf(archive.close())
        self.assertIn(("response", "http://a/", b"hello"), self.records())

    def test_an_incomplete_response_is_not_recorded(self):
        archive = self.archive("x.warc")
        page = Page(b"half", error=TruncatedBody("cut"))
        World({"http://a/": page}, sinks=[archive]).fetch("http://a/")
        self.successResultOf(archive.close())
        self.assertEqual([kind for kind, *_ in self.records()], ["warcinfo"])

    def test_records_are_appended_after_the_last_complete_one(self):
        archive = self.archive("x.warc.gz")
        World({"http://a/": Page(b"one")}, sinks=[archive]).fetch("http://a/")
        end = archive.size
        self.successResultOf(archive.close())
        with self.path.open("ab") as stream:
            stream.write(b"\x1f\x8btorn")
        archive = self.archive("x.warc.gz", size=end)
        World({"http://a/2": Page(b"two")}, sinks=[archive]).fetch("http://a/2")
        self.successResultOf(archive.close())
        bodies = [body for kind, _, body in self.records() if kind == "response"]
        self.assertEqual(bodies, [b"one", b"two"])
        self.assert_valid()

    def test_the_result_waits_until_the_record_is_written(self):
        waiting = []

        def later(function, *arguments):
            waiting.append((function, arguments, Deferred()))
            return waiting[-1][2]

        archive = self.archive("x.warc", later)
        world = World({"http://a/": Page(b"one"), "http://b/": Page(b"two")}, sinks=[archive])
        world.start("http://a/", "http://b/")
        world.run(1)
        self.assertEqual((world.results, len(waiting)), ([], 1))
        for number in (0, 1):
            function, arguments, done = waiting[number]
            function(*arguments)
            done.callback(None)
            self.assertEqual(len(world.results), number + 1)

    def test_a_device_is_refused(self):
        error = self.assertRaises(OSError, WARCSink, Path("/dev/full"), at_once, "testbot")
        self.assertEqual((error.strerror, error.filename), ("it must be a file", "/dev/full"))

    def test_a_pipe_is_refused_without_waiting(self):
        self.folder.mkdir()
        os.mkfifo(self.folder / "x.warc")
        error = self.assertRaises(OSError, self.archive, "x.warc")
        self.assertEqual((error.strerror, error.filename), ("it must be a file", str(self.path)))

    def test_an_archive_in_use_is_refused(self):
        archive = self.archive("x.warc")
        error = self.assertRaises(OSError, self.archive, "x.warc")
        self.assertEqual(error.strerror, "already being written to")
        self.successResultOf(archive.close())

    def test_a_run_without_records_writes_a_valid_archive(self):
        self.successResultOf(self.archive("x.warc").close())
        self.assertEqual([kind for kind, *_ in self.records()], ["warcinfo"])
        before = self.path.read_bytes()
        self.successResultOf(self.archive("x.warc", size=len(before)).close())
        self.assertEqual(self.path.read_bytes(), before)

    def test_closing_on_a_full_disk_raises_nothing(self):
        archive = self.archive("x.warc")

        def full(_):
            raise OSError(28, "No space left on device")

        archive._records._file = SimpleNamespace(
            write=full, seek=archive._file.seek, truncate=archive._file.truncate
        )
        result = World({"http://a/": Page(b"x")}, sinks=[archive]).fetch("http://a/")
        self.assertEqual(
            error_text(result.error), f"SaveFailed: No space left on device: {self.path}"
        )
        self.successResultOf(archive.close())
        self.assertEqual(self.path.read_bytes(), b"")
        self.assertTrue(archive._file.closed)

    def test_a_full_disk_fails_the_url(self):
        archive = self.archive("x.warc", lambda *_: fail(OSError(28, "No space left on device")))
        result = World({"http://a/": Page(b"x")}, sinks=[archive]).fetch("http://a/")
        self.assertEqual(error_text(result.error), "SaveFailed: No space left on device")

    def test_a_record_that_hits_a_full_disk_is_rolled_back(self):
        archive = self.archive("x.warc")
        pages = {f"http://a/{name}": Page(name.encode() * 500_000) for name in "12"}
        world = World(pages, sinks=[archive])
        self.assertIsNone(world.fetch("http://a/1").error)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_FSIZE, limits)
        resource.setrlimit(resource.RLIMIT_FSIZE, (archive.size + 300_000, limits[1]))
        self.assertEqual(
            error_text(world.fetch("http://a/2").error), f"SaveFailed: File too large: {self.path}"
        )
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        self.assertIsNone(world.fetch("http://a/2").error)
        self.successResultOf(archive.close())
        self.assertEqual([record[0] for record in self.records()].count("response"), 2)
        self.assert_valid()


PAGES = {f"http://a/{number}": Page(b"%d" % number * 5000) for number in range(3)}


class Case(SynchronousTestCase):
    def archive(self, path, size=0):
        return WARCSink(path, execute, "testbot", size=size)

    def filled(self, name, pages):
        """Return an archive's path, and after how many bytes each of its pages ends."""
        path = Path(self.mktemp() + name)
        archive = self.archive(path)
        ends = []
        for url in pages:
            World(PAGES, sinks=[archive]).fetch(url)
            ends.append(archive.size)
        self.successResultOf(archive.close())
        return path, ends

    def assert_valid(self, path):
        class Command:
            inputs = (str(path),)
            verbose = False

        checker = Checker(Command())
        checker.process_all()
        self.assertFalse(checker.exit_value)


class WholeTests(Case):
    def test_an_incomplete_record_does_not_count(self):
        for name in (".warc", ".warc.gz"):
            path, (first, second) = self.filled(name, list(PAGES)[:2])
            is_gzip = name.endswith("gz")
            self.assertEqual(complete_records_size(path, gzip=is_gzip), second)
            whole = path.read_bytes()
            found = []
            for end in range(first, second, 7):
                path.write_bytes(whole[:end])
                found.append(complete_records_size(path, gzip=is_gzip))
            # The end of the first pair, and the end of the next response.
            self.assertEqual((found[0], len(set(found))), (first, 2))
            path.write_bytes(whole[:first] + b"rubbish")
            self.assert_refused(path, first, gzip=is_gzip)

    def assert_refused(self, path, place, **how):
        error = self.assertRaises(OSError, complete_records_size, path, **how)
        what = f"no WARC record at byte {place}, so none can be added"
        self.assertEqual((error.strerror, error.filename), (what, str(path)))

    def test_an_archive_with_a_damaged_record_is_refused(self):
        for name in (".warc", ".warc.gz"):
            path, (first, _) = self.filled(name, list(PAGES)[:2])
            whole = path.read_bytes()
            path.write_bytes(whole[:first] + bytes(200) + whole[first + 200 :])
            self.assert_refused(path, first, gzip=name.endswith("gz"))

    def test_a_file_that_is_not_an_archive_is_refused(self):
        path = Path(self.mktemp())
        head = b"WARC/1.1\r\n"
        for text in (
            b"hello",
            b"WART",
            b"WARC/1.1\n\n",
            head + b"\r\n",
            head + b"Content-Length: x\r\n\r\n",
            head + b"Content-Length: 1\r\n\r\n1\r\n\n",
            head + b"Content-Length: 1\r\n\r\n1\r\n\rmore",
            head + b"x" * 2_000_000,
        ):
            path.write_bytes(text)
            self.assert_refused(path, 0, gzip=False)
        for text in (b"hello", gzip.compress(b"hello"), gzip.compress(b"WART")):
            path.write_bytes(text)
            self.assert_refused(path, 0, gzip=True)

    def test_an_incomplete_first_record_does_not_count(self):
        path = Path(self.mktemp())
        head = b"WARC/1.1\r\n"
        for text in (b"", b"WA", head, head + b"Content-Length: 5\r\n\r\nhello\r\n\r"):
            path.write_bytes(text)
            self.assertEqual(complete_records_size(path, gzip=False), 0, text)
        for text in (b"", b"\x1f", gzip.compress(head)[:-1]):
            path.write_bytes(text)
            self.assertEqual(complete_records_size(path, gzip=True), 0, text)

    def test_a_long_record_that_compresses_well_is_read_to_its_end(self):
        path = Path(self.mktemp())
        whole = gzip.compress(b"WARC/1.1\r\n" + bytes(10_000_000))
        for tail in (b"", whole[:-1]):
            path.write_bytes(whole + tail)
            self.assertEqual(complete_records_size(path, gzip=True), len(whole))


class CutTests(Case):
    def test_a_shortened_archive_continues_after_its_last_complete_record(self):
        for name in (".warc", ".warc.gz"):
            path, (first, second) = self.filled(name, list(PAGES)[:2])
            path.write_bytes(path.read_bytes()[: first + 20])
            archive = self.archive(path, size=second)
            self.assertEqual(archive.size, first)
            self.assertIsNone(World(PAGES, sinks=[archive]).fetch("http://a/2").error)
            self.successResultOf(archive.close())
            self.assert_valid(path)

    def test_a_removed_archive_is_created_again(self):
        path, (end,) = self.filled(".warc", ["http://a/0"])
        whole = len(path.read_bytes())
        for leave in (path.unlink, lambda: path.write_bytes(b"")):
            leave()
            archive = self.archive(path, end)
            self.assertIsNone(World(PAGES, sinks=[archive]).fetch("http://a/0").error)
            self.successResultOf(archive.close())
            self.assertEqual(path.stat().st_size, whole)
            self.assert_valid(path)

    def test_an_archive_without_a_journal_entry_is_appended_to(self):
        path, (end,) = self.filled(".warc.gz", ["http://a/0"])
        before = path.read_bytes()
        archive = self.archive(path, None)
        self.assertEqual(archive.size, end)
        World(PAGES, sinks=[archive]).fetch("http://a/1")
        self.successResultOf(archive.close())
        self.assertTrue(path.read_bytes().startswith(before))
        self.assert_valid(path)

    def test_an_archive_of_a_killed_run_continues_after_its_last_complete_record(self):
        path, (end,) = self.filled(".warc", ["http://a/0"])
        path.write_bytes(path.read_bytes() + path.read_bytes()[:1000])
        archive = self.archive(path, None)
        # What says who wrote the archive is a whole record.
        self.assertGreater(archive.size, end)
        World(PAGES, sinks=[archive]).fetch("http://a/1")
        self.successResultOf(archive.close())
        self.assert_valid(path)

    def test_a_file_that_is_not_an_archive_is_not_changed(self):
        path = Path(self.mktemp())
        path.write_bytes(b"a letter")
        for begins in (None, 1000):
            self.assertRaises(OSError, self.archive, path, begins)
            self.assertEqual(path.read_bytes(), b"a letter")
