"""Files, on a network in memory."""

import os
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

from evserve.fetch.memory import Page
from evserve.fetch.sinks import files
from evserve.http.errors import TruncatedBody
from evserve.http.headers import Head, Headers
from evserve.http.request import Request
from tests.fetch.polite_world import redirect
from tests.fetch.sinks.file_case import Case


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


class Halves:
    """A file that takes half of what it is given."""

    def __init__(self, out):
        self.out = out
        self.close = out.close

    def write(self, data):
        return self.out.write(data[: len(data) // 2 + 1])


class Full(Halves):
    def write(self, data):
        raise OSError(28, "No space left on device")


class Torn(Halves):
    def __init__(self, out):
        super().__init__(out)
        self.close = self.fail

    def fail(self):
        self.out.close()
        raise OSError(5, "Input/output error")


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

    def test_a_download_that_ends_does_not_give_away_the_place_of_another(self):
        self.world({})
        store = self.store

        def begin():
            arrival = SimpleNamespace(text="http://a/x", sent=Request(None, b"GET", Headers()))
            return store.open(arrival, Head(200, b"", "1.1", Headers([ETAG]), None, None))

        first, second = begin(), begin()
        first.close(None)
        third = begin()  # has the place
        second.write(b"second")
        second.close(None)
        fourth = begin()
        fourth.write(b"fourth")
        third.write(b"third")
        third.close(None)
        self.assertEqual({path.read_bytes() for path in self.files()}, {b"third", b"fourth"})
        fourth.close(None)
        self.assertEqual([path.read_bytes() for path in self.files()], [b"fourth"])
        self.assertEqual(store.busy, set())

    def test_a_disk_that_refuses_fails_the_url_alone(self):
        world = self.world({"http://a/x": Page(b"x"), "http://b/x": Page(b"y")})
        self.folder.mkdir()
        (self.folder / "a").write_text("a file where a folder should be")
        error = world.fetch("http://a/x").error
        self.assertEqual(error, f"SaveFailed: File exists: {self.folder / 'a'}")
        self.assertIsNone(world.fetch("http://b/x").error)

    def test_a_name_that_is_taken_by_a_folder_fails_the_url_and_leaves_nothing(self):
        world = self.world({"http://a/x": Page(b"x", headers=(ETAG,))})
        Path(world.fetch("http://a/x").path).unlink()
        target = Path(world.results[0].path)
        target.mkdir()
        self.assertIn("SaveFailed", world.fetch("http://a/x").error)
        self.assertEqual(self.files(), [])

    def test_a_disk_that_is_full_keeps_no_file(self):
        world = self.world({"http://a/x": Page(BODY)}, out=Full)
        error = world.fetch("http://a/x").error
        self.assertRegex(error, "SaveFailed: No space left on device: .*/a/x-.*[.]part$")
        self.assertEqual((self.files(), self.store.busy), ([], set()))

    def test_a_file_that_cannot_be_closed_is_not_kept(self):
        world = self.world({"http://a/x": Page(b"x")}, out=Torn)
        self.assertIn("SaveFailed: Input/output", world.fetch("http://a/x").error)
        self.assertEqual((self.files(), self.store.busy), ([], set()))

    def test_notes_that_cannot_be_written_fail_the_url_and_leave_nothing(self):
        def full(notes, _):
            Path(notes).write_text("{")
            raise OSError(28, "No space left on device")

        self.patch(files, "write_notes", full)
        error = self.world({"http://a/x": Page(BODY, headers=(ETAG,))}).fetch("http://a/x").error
        self.assertRegex(error, "SaveFailed: No space left on device: .*[.]part[.]json$")
        self.assertEqual((self.files(), self.store.busy), ([], set()))

    def test_a_beginning_that_cannot_be_read_fails_the_url_at_once(self):
        server = Versioned()
        world = self.world({"http://a/x": server})
        world.start("http://a/x")
        (part,) = (path for path in self.files() if path.suffix == ".part")

        class Unreadable:
            close = staticmethod(lambda: None)

            def read(self, size):
                raise OSError(5, "Input/output error")

        original = files.Download.hash_again
        self.patch(
            files.Download,
            "hash_again",
            lambda download, arrival, _, clock: original(download, arrival, Unreadable(), clock),
        )
        world.run(2)  # much less than the time-out
        (result,) = world.results
        self.assertEqual(result.error, f"SaveFailed: Input/output error: {part}")
        self.assertEqual((self.files(), self.store.busy), ([], set()))

    def test_a_file_may_be_written_by_halves(self):
        self.world({"http://a/x": Page(BODY)}, out=Halves).fetch("http://a/x")
        self.assertEqual([path.read_bytes() for path in self.files()], [BODY])
