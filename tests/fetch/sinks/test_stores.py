"""Files and archives, on a network in memory."""

import os
from hashlib import sha256
from pathlib import Path

from twisted.internet.defer import Deferred, execute, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from warcio.archiveiterator import ArchiveIterator
from warcio.checker import Checker

from evserve.fetch.errors import TruncatedBody
from evserve.fetch.memory import Page
from evserve.fetch.sinks.files import FileStore
from evserve.fetch.sinks.warc import Archive
from tests.fetch.polite_world import World, redirect


BODY = os.urandom(5_000_000)
ETAG = (b"ETag", b'"v1"')


class Versioned:
    """A server with one file, which breaks off once and then continues."""

    def __init__(self, breaks_at=3_000_000):
        self.etag = b'"v1"'
        self.body = BODY
        self.breaks_at = breaks_at
        self.ranges = []
        self.honours_ranges = True

    def __call__(self, request):
        asked = request.headers.get(b"range")
        self.ranges.append(asked)
        headers = ((b"ETag", self.etag),)
        if self.breaks_at:
            cut, self.breaks_at = self.body[: self.breaks_at], 0
            return Page(cut, 200, headers, error=TruncatedBody("cut"))
        if asked is None or request.headers.get(b"if-range") != self.etag:
            return Page(self.body, 200, headers)
        start = int(asked[6:-1])
        if not self.honours_ranges:
            start += 1
        where = b"bytes %d-%d/%d" % (start, len(self.body) - 1, len(self.body))
        return Page(self.body[start:], 206, (*headers, (b"Content-Range", where)))


class Case(SynchronousTestCase):
    def setUp(self):
        self.folder = Path(self.mktemp())
        self.clock = Clock()

    def world(self, pages):
        self.store = FileStore(self.folder, self.clock)
        return World(pages, stores=[self.store], clock=self.clock)

    def files(self):
        return [path for path in self.folder.rglob("*") if path.is_file()]


class FileTests(Case):
    def test_a_page_becomes_a_file(self):
        result = self.world({"http://a/x.bin": Page(BODY)}).fetch("http://a/x.bin")
        self.assertEqual(self.files(), [Path(result.path)])
        self.assertEqual(Path(result.path).read_bytes(), BODY)
        self.assertEqual(result.sha256, sha256(BODY).hexdigest())

    def test_errors_and_redirects_are_no_files(self):
        world = self.world(
            {
                "http://a/": Page(b"gone", status=404),
                "http://a/r": redirect("/x"),
                "http://a/x": Page(b"there"),
            }
        )
        self.assertIsNone(world.fetch("http://a/").path)
        result = world.fetch("http://a/r")
        self.assertEqual([path.read_bytes() for path in self.files()], [b"there"])
        self.assertIn("/r-", result.path)

    def test_a_file_is_asked_for_as_it_is(self):
        world = self.world({"http://a/": Page()})
        world.fetch("http://a/")
        self.assertEqual(world.engine.requests[0].headers.get(b"accept-encoding"), b"identity")

    def test_what_broke_off_is_continued_and_checked(self):
        server = Versioned()
        result = self.world({"http://a/x": server}).fetch("http://a/x")
        self.assertEqual(server.ranges, [None, b"bytes=3000000-"])
        self.assertEqual((result.error, result.tries), (None, 2))
        self.assertEqual(result.sha256, sha256(BODY).hexdigest())
        self.assertEqual(result.content_length, len(BODY))
        self.assertEqual([path.read_bytes() for path in self.files()], [BODY])

    def test_another_run_continues_too(self):
        server = Versioned()
        world = self.world({"http://a/x": server})
        world.start("http://a/x")
        world.fetcher.close()
        self.assertEqual(len(self.files()), 2)
        result = self.world({"http://a/x": server}).fetch("http://a/x")
        self.assertEqual(server.ranges, [None, b"bytes=3000000-"])
        self.assertEqual(result.sha256, sha256(BODY).hexdigest())

    def test_a_file_that_has_changed_is_fetched_anew(self):
        server = Versioned()
        world = self.world({"http://a/x": server})
        world.start("http://a/x")
        server.etag, server.body = b'"v2"', b"new"
        world.run(5)
        self.assertEqual(world.results[0].sha256, sha256(b"new").hexdigest())
        self.assertEqual([path.read_bytes() for path in self.files()], [b"new"])

    def test_a_server_that_goes_on_elsewhere_is_asked_for_everything(self):
        server = Versioned()
        server.honours_ranges = False
        result = self.world({"http://a/x": server}).fetch("http://a/x")
        self.assertEqual(server.ranges, [None, b"bytes=3000000-", None])
        self.assertEqual((result.error, result.sha256), (None, sha256(BODY).hexdigest()))

    def test_a_part_longer_than_the_file_is_thrown_away(self):
        server = Versioned()
        world = self.world({"http://a/x": server})
        world.start("http://a/x")
        pages = [Page(status=416), Page(b"short")]
        world.pages["http://a/x"] = lambda _: pages.pop(0)
        world.run(5)
        self.assertEqual((world.results[0].error, world.results[0].content_length), (None, 5))

    def test_without_a_version_half_a_file_is_worth_nothing(self):
        pages = [Page(b"half", error=TruncatedBody("cut")), Page(b"whole")]
        world = self.world({"http://a/x": lambda _: pages.pop(0)})
        world.start("http://a/x")
        self.assertEqual(self.files(), [])
        world.run(5)
        self.assertIsNone(world.engine.requests[1].headers.get(b"range"))
        self.assertEqual([path.read_bytes() for path in self.files()], [b"whole"])

    def test_a_part_that_nobody_asked_for_is_an_error(self):
        result = self.world({"http://a/": Page(b"x", status=206)}).fetch("http://a/")
        self.assertIn("SaveFailed", result.error)
        self.assertEqual(self.files(), [])

    def test_the_same_url_twice_at_once_is_two_downloads(self):
        world = self.world({"http://a/x": Page(BODY, headers=(ETAG,))})
        world.engine.chunk = 1000
        world.start("http://a/x", "http://a/x")
        world.run(1)
        self.assertEqual({result.error for result in world.results}, {None})
        self.assertEqual([path.read_bytes() for path in self.files()], [BODY])

    def test_a_disk_that_refuses_fails_the_url_alone(self):
        world = self.world({"http://a/x": Page(b"x"), "http://b/x": Page(b"y")})
        self.folder.mkdir()
        (self.folder / "a").write_text("a file where a folder should be")
        self.assertIn("SaveFailed", world.fetch("http://a/x").error)
        self.assertIsNone(world.fetch("http://b/x").error)

    def test_a_name_that_is_taken_by_a_folder_fails_the_url_and_leaves_nothing(self):
        world = self.world({"http://a/x": Page(b"x", headers=(ETAG,))})
        Path(world.fetch("http://a/x").path).unlink()
        target = Path(world.results[0].path)
        target.mkdir()
        self.assertIn("SaveFailed", world.fetch("http://a/x").error)
        self.assertEqual(self.files(), [])


def at_once(function, *arguments):
    return execute(function, *arguments)


class ArchiveTests(Case):
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

    def test_a_full_disk_fails_the_url(self):
        archive = self.archive("x.warc", lambda *_: fail(OSError(28, "No space left on device")))
        result = World({"http://a/": Page(b"x")}, stores=[archive]).fetch("http://a/")
        self.assertEqual(result.error, "SaveFailed: No space left on device")
