"""Archives, on a network in memory."""

import os
import resource
from pathlib import Path
from types import SimpleNamespace

from twisted.internet.defer import Deferred, execute, fail
from twisted.trial.unittest import SynchronousTestCase
from warcio.archiveiterator import ArchiveIterator
from warcio.checker import Checker

from evserve.fetch.memory import Page
from evserve.fetch.sinks.warc import Archive
from evserve.http.errors import TruncatedBody
from tests.fetch.polite_world import World, redirect


def at_once(function, *arguments):
    return execute(function, *arguments)


class ArchiveTests(SynchronousTestCase):
    def setUp(self):
        self.folder = Path(self.mktemp())

    def archive(self, name, in_thread=at_once, **more):
        self.path = self.folder / name
        self.folder.mkdir(exist_ok=True)
        return Archive(self.path, in_thread, "testbot", **more)

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

    def test_requests_and_responses_are_kept(self):
        for name in ("x.warc", "x.warc.gz"):
            archive = self.archive(name)
            world = World(
                {"http://a/": redirect("/x"), "http://a/x": Page(b"hello")}, stores=[archive]
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

    def test_a_chunked_body_is_kept_as_it_is(self):
        archive = self.archive("x.warc")
        page = Page(b"hello", headers=((b"Transfer-Encoding", b"chunked"),))
        World({"http://a/": page}, stores=[archive]).fetch("http://a/")
        self.successResultOf(archive.close())
        self.assertIn(("response", "http://a/", b"hello"), self.records())

    def test_half_a_response_is_no_record(self):
        archive = self.archive("x.warc")
        page = Page(b"half", error=TruncatedBody("cut"))
        World({"http://a/": page}, stores=[archive]).fetch("http://a/")
        self.successResultOf(archive.close())
        self.assertEqual([kind for kind, *_ in self.records()], ["warcinfo"])

    def test_it_goes_on_after_its_last_whole_record(self):
        archive = self.archive("x.warc.gz")
        World({"http://a/": Page(b"one")}, stores=[archive]).fetch("http://a/")
        end = archive.end
        self.successResultOf(archive.close())
        with self.path.open("ab") as stream:
            stream.write(b"\x1f\x8btorn")
        archive = self.archive("x.warc.gz", end=end)
        World({"http://a/2": Page(b"two")}, stores=[archive]).fetch("http://a/2")
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
        world = World({"http://a/": Page(b"one"), "http://b/": Page(b"two")}, stores=[archive])
        world.start("http://a/", "http://b/")
        world.run(1)
        self.assertEqual((world.results, len(waiting)), ([], 1))
        for number in (0, 1):
            function, arguments, done = waiting[number]
            function(*arguments)
            done.callback(None)
            self.assertEqual(len(world.results), number + 1)

    def test_what_cannot_be_cut_off_is_named(self):
        error = self.assertRaises(OSError, Archive, Path("/dev/full"), at_once, "testbot")
        self.assertEqual((error.strerror, error.filename), ("it must be a file", "/dev/full"))

    def test_a_pipe_is_refused_and_not_waited_for(self):
        self.folder.mkdir()
        os.mkfifo(self.folder / "x.warc")
        error = self.assertRaises(OSError, self.archive, "x.warc")
        self.assertEqual((error.strerror, error.filename), ("it must be a file", str(self.path)))

    def test_two_do_not_write_to_one_file(self):
        archive = self.archive("x.warc")
        error = self.assertRaises(OSError, self.archive, "x.warc")
        self.assertEqual(error.strerror, "already being written to")
        self.successResultOf(archive.close())

    def test_a_run_without_a_record_leaves_an_archive_all_the_same(self):
        self.successResultOf(self.archive("x.warc").close())
        self.assertEqual([kind for kind, *_ in self.records()], ["warcinfo"])
        before = self.path.read_bytes()
        self.successResultOf(self.archive("x.warc", end=len(before)).close())
        self.assertEqual(self.path.read_bytes(), before)

    def test_a_disk_that_is_full_from_the_beginning_is_closed_in_peace(self):
        archive = self.archive("x.warc")

        def full(_):
            raise OSError(28, "No space left on device")

        archive._out._file = SimpleNamespace(
            write=full, seek=archive._file.seek, truncate=archive._file.truncate
        )
        result = World({"http://a/": Page(b"x")}, stores=[archive]).fetch("http://a/")
        self.assertEqual(result.error, f"SaveFailed: No space left on device: {self.path}")
        self.successResultOf(archive.close())
        self.assertEqual(self.path.read_bytes(), b"")
        self.assertTrue(archive._file.closed)

    def test_a_full_disk_fails_the_url(self):
        archive = self.archive("x.warc", lambda *_: fail(OSError(28, "No space left on device")))
        result = World({"http://a/": Page(b"x")}, stores=[archive]).fetch("http://a/")
        self.assertEqual(result.error, "SaveFailed: No space left on device")

    def test_a_disk_that_is_full_in_the_middle_of_a_record_spoils_nothing(self):
        archive = self.archive("x.warc")
        pages = {f"http://a/{name}": Page(name.encode() * 500_000) for name in "12"}
        world = World(pages, stores=[archive])
        self.assertIsNone(world.fetch("http://a/1").error)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_FSIZE, limits)
        resource.setrlimit(resource.RLIMIT_FSIZE, (archive.end + 300_000, limits[1]))
        self.assertEqual(
            world.fetch("http://a/2").error, f"SaveFailed: File too large: {self.path}"
        )
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        self.assertIsNone(world.fetch("http://a/2").error)
        self.successResultOf(archive.close())
        self.assertEqual([record[0] for record in self.records()].count("response"), 2)
        self.assert_valid()
