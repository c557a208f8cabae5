"""Files, from a network in memory: names, partial files, syncs, several runs at once."""

import os
import re
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from evserve.fetch.errors import SaveFailed, error_text
from evserve.fetch.output import files
from evserve.fetch.output.files import (
    PartialFile,
    Validator,
    file_name,
    make_private_folder,
    read_partial,
    remove_private_folder,
    remove_stale_folders,
    write_validator,
)
from evserve.fetch.output.warc import WARCSink
from evserve.fetch.testing import Page
from evserve.http.errors import TruncatedBody
from evserve.http.headers import Head, Headers
from evserve.http.request import Request
from evserve.http.url import URL, Origin, parse_url
from tests.fetch.memory_world import redirect
from tests.fetch.output.file_sink_case import Case
from tests.fetch.slow_disk import SlowDisk


BODY = os.urandom(5_000_000)
ETAG = (b"ETag", b'"v1"')


class Versioned:
    """A server with one file, which breaks off once and then resumes."""

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

    def test_errors_and_redirects_are_not_saved(self):
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

    def test_a_response_to_head_leaves_the_file_as_it_is(self):
        world = self.world({"http://a/": Page(BODY)})
        world.fetch("http://a/")
        world.pages["http://a/"] = Page()
        world.fetcher.start("http://a/", world.results.append, b"HEAD")
        world.run(1)
        self.assertEqual((world.results[-1].error, world.results[-1].path), (None, None))
        self.assertEqual([path.read_bytes() == BODY for path in self.files()], [True])

    def test_a_part_that_the_user_asks_for_is_refused(self):
        world = self.world({"http://a/": Page()})
        result = world.fetcher.fetch("http://a/", headers=[(b"Range", b"bytes=1-")])
        self.assertIsInstance(self.successResultOf(result).error, SaveFailed)
        self.assertEqual(world.client.requests, [])

    def test_files_are_requested_uncompressed(self):
        world = self.world({"http://a/": Page()})
        world.fetch("http://a/")
        self.assertEqual(world.client.requests[0].headers.get(b"accept-encoding"), b"identity")

    def test_a_truncated_download_is_resumed_with_the_right_checksum(self):
        server = Versioned()
        result = self.world({"http://a/x": server}).fetch("http://a/x")
        self.assertEqual(server.ranges, [None, b"bytes=3000000-"])
        self.assertEqual((result.error, result.tries), (None, 2))
        self.assertEqual(result.sha256, sha256(BODY).hexdigest())
        self.assertEqual((result.content_length, result.body == BODY), (len(BODY), True))
        self.assertEqual([path.read_bytes() for path in self.files()], [BODY])

    def test_another_run_resumes_a_partial_file(self):
        server = Versioned()
        world = self.world({"http://a/x": server})
        world.start("http://a/x")
        world.fetcher.close()
        self.assertEqual(len(self.files()), 2)
        result = self.world({"http://a/x": server}).fetch("http://a/x")
        self.assertEqual(server.ranges, [None, b"bytes=3000000-"])
        self.assertEqual(result.sha256, sha256(BODY).hexdigest())
        self.assertTrue(result.body == BODY)

    def test_a_changed_file_is_fetched_from_the_beginning(self):
        server = Versioned()
        world = self.world({"http://a/x": server})
        world.start("http://a/x")
        server.etag, server.body = b'"v2"', b"new"
        world.run(5)
        self.assertEqual(world.results[0].sha256, sha256(b"new").hexdigest())
        self.assertEqual([path.read_bytes() for path in self.files()], [b"new"])

    def test_a_wrong_range_is_followed_by_a_request_without_range(self):
        server = Versioned()
        server.honours_ranges = False
        result = self.world({"http://a/x": server}).fetch("http://a/x")
        self.assertEqual(server.ranges, [None, b"bytes=3000000-", None])
        self.assertEqual((result.error, result.sha256), (None, sha256(BODY).hexdigest()))

    def test_a_part_longer_than_the_file_is_discarded(self):
        server = Versioned()
        world = self.world({"http://a/x": server})
        world.start("http://a/x")
        pages = [Page(status=416), Page(b"short")]
        world.pages["http://a/x"] = lambda _: pages.pop(0)
        world.run(5)
        self.assertEqual((world.results[0].error, world.results[0].content_length), (None, 5))

    def test_a_partial_file_without_a_validator_is_discarded(self):
        pages = [Page(b"half", error=TruncatedBody("cut")), Page(b"whole")]
        world = self.world({"http://a/x": lambda _: pages.pop(0)})
        world.start("http://a/x")
        self.assertEqual(self.files(), [])
        world.run(5)
        self.assertIsNone(world.client.requests[1].headers.get(b"range"))
        self.assertEqual([path.read_bytes() for path in self.files()], [b"whole"])

    def test_an_unrequested_206_is_an_error(self):
        result = self.world({"http://a/": Page(b"x", status=206)}).fetch("http://a/")
        self.assertIsInstance(result.error, SaveFailed)
        self.assertEqual(self.files(), [])

    def test_two_fetches_of_a_url_at_once_have_a_part_each(self):
        world = self.world({"http://a/x": Page(BODY, headers=(ETAG,))})
        world.client.chunk = 1000
        world.start("http://a/x", "http://a/x")
        world.run(1)
        self.assertEqual({result.error for result in world.results}, {None})
        self.assertEqual([path.read_bytes() for path in self.files()], [BODY])

    def test_the_end_of_a_download_does_not_free_the_part_of_another(self):
        self.world({})
        sink = self.sink

        def begin():
            job = SimpleNamespace(url="http://a/x", sent=Request(None, b"GET", Headers()))
            return sink.open(job, Head(200, b"", "1.1", Headers([ETAG]), None, None))

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
        self.assertEqual(sink.in_use, set())

    def test_a_disk_error_fails_only_its_url(self):
        world = self.world({"http://a/x": Page(b"x"), "http://b/x": Page(b"y")})
        self.folder.mkdir()
        (self.folder / "a").write_text("a file where a folder should be")
        error = error_text(world.fetch("http://a/x").error)
        self.assertEqual(error, f"SaveFailed: File exists: {self.folder / 'a'}")
        self.assertIsNone(world.fetch("http://b/x").error)

    def test_a_name_taken_by_a_folder_fails_the_url_without_leftovers(self):
        world = self.world({"http://a/x": Page(b"x", headers=(ETAG,))})
        Path(world.fetch("http://a/x").path).unlink()
        target = Path(world.results[0].path)
        target.mkdir()
        self.assertIsInstance(world.fetch("http://a/x").error, SaveFailed)
        self.assertEqual(self.files(), [])

    def test_a_full_disk_leaves_no_file(self):
        world = self.world({"http://a/x": Page(BODY)}, out=Full)
        error = error_text(world.fetch("http://a/x").error)
        self.assertRegex(error, "SaveFailed: No space left on device: .*/a/x-.*[.]part$")
        self.assertEqual((self.files(), self.sink.in_use), ([], set()))

    def test_a_file_that_fails_to_close_is_removed(self):
        world = self.world({"http://a/x": Page(b"x")}, out=Torn)
        self.assertIn("SaveFailed: Input/output", error_text(world.fetch("http://a/x").error))
        self.assertEqual((self.files(), self.sink.in_use), ([], set()))

    def test_a_validator_that_cannot_be_written_fails_the_url_without_leftovers(self):
        def full(notes, _):
            Path(notes).write_text("{")
            raise OSError(28, "No space left on device")

        self.patch(files, "write_validator", full)
        error = error_text(
            self.world({"http://a/x": Page(BODY, headers=(ETAG,))}).fetch("http://a/x").error
        )
        self.assertRegex(error, "SaveFailed: No space left on device: .*[.]part[.]json$")
        self.assertEqual((self.files(), self.sink.in_use), ([], set()))

    def test_a_partial_file_that_cannot_be_read_fails_the_url(self):
        server = Versioned()
        world = self.world({"http://a/x": server})
        world.start("http://a/x")
        (part,) = (path for path in self.files() if path.suffix == ".part")

        class Unreadable:
            close = staticmethod(lambda: None)

            def read(self, size):
                raise OSError(5, "Input/output error")

        original = files.FileWriter.rehash
        self.patch(
            files.FileWriter,
            "rehash",
            lambda writer, job, _, clock: original(writer, job, Unreadable(), clock),
        )
        world.run(2)  # much less than the time-out
        (result,) = world.results
        self.assertEqual(error_text(result.error), f"SaveFailed: Input/output error: {part}")
        self.assertEqual((self.files(), self.sink.in_use), ([], set()))

    def test_short_writes_are_completed(self):
        self.world({"http://a/x": Page(BODY)}, out=Halves).fetch("http://a/x")
        self.assertEqual([path.read_bytes() for path in self.files()], [BODY])


SIZE = 200_000
BODIES = [bytes([number]) * SIZE for number in range(4)]
PAGE = "http://a/x"


class AtOnceTests(Case):
    def setUp(self):
        super().setUp()
        self.pages = []
        self.begin_run()

    def begin_run(self, **how):
        self.world_ = self.world({PAGE: lambda _: self.pages.pop(0)}, out=self.pausing, **how)
        self.client = self.world_.client
        self.client.chunk = SIZE // 2

    def pausing(self, out):
        test = self

        class Pausing:
            """A file whose first half is the last for now."""

            is_first = True

            def write(self, data):
                if self.is_first:
                    self.is_first = False
                    test.client.in_flight[-1].pause()
                return out.write(data)

            def close(self):
                out.close()
                if test.is_broken:
                    raise OSError(5, "Input/output error")

        return Pausing()

    is_broken = False

    def begin(self, number=0):
        """Begin a download, up to the middle of its body; return what lets it go on."""
        self.pages.append(Page(BODIES[number], headers=(ETAG,)))
        self.world_.start(PAGE)
        exchange = self.client.in_flight[-1]
        self.assertTrue(exchange.is_paused)
        return exchange.resume

    def whole(self):
        """Return which bodies are files; -1 is a mixture."""
        found = [path.read_bytes() for path in self.files() if ".part" not in path.name]
        return [BODIES.index(body) if body in BODIES else -1 for body in found]

    def unfinished(self):
        return sorted(path.name.partition(".")[2] for path in self.files() if "." in path.name)

    def test_downloads_of_one_url_do_not_overwrite_each_other(self):
        first, second, third = (self.begin(number) for number in range(3))
        second()
        self.assertEqual(self.whole(), [1])
        fourth = self.begin(3)
        for number, go_on in ((0, first), (2, third), (3, fourth)):
            go_on()
            self.assertEqual(self.whole(), [number])
        self.assertEqual([result.error for result in self.world_.results], [None] * 4)
        self.assertEqual((len(self.files()), self.sink.in_use), (1, set()))

    def test_a_failed_second_download_keeps_the_validator_of_the_first(self):
        self.begin()
        second = self.begin(1)
        self.is_broken = True
        second()
        self.assertIn("SaveFailed: Input/output error: ", error_text(self.world_.results[0].error))
        self.assertEqual(self.unfinished(), ["part", "part.json"])

    def test_parts_of_a_killed_run_are_overwritten(self):
        for _ in range(2):
            self.begin_run()
            self.begin()
            self.begin()
        self.assertEqual(self.unfinished(), ["part", "part.2", "part.json"])

    def test_a_concurrent_run_writes_to_a_private_folder(self):
        first = self.begin(0)
        private = make_private_folder(self.folder)
        self.begin_run(resumes=False, private=private)
        second = self.begin(1)
        third = self.begin(2)
        self.assertEqual(self.unfinished(), ["part", "part", "part.2", "part.json"])
        self.assertEqual(len(list(private.iterdir())), 2)
        third()
        self.assertEqual(self.whole(), [2])
        second()
        self.assertEqual((self.whole(), self.unfinished()), ([1], ["part", "part.json"]))
        first()
        self.assertEqual((self.whole(), self.unfinished()), ([0], []))


class SyncedTests(Case):
    """With a disk that is synced, a file has its name only when its bytes are there for good."""

    def setUp(self):
        super().setUp()
        self.slow = SlowDisk()
        self.world_ = self.world({"http://a/x": Page(b"hello")}, disk=self.slow.disk)
        self.world_.start("http://a/x")
        self.world_.run(1)

    def names(self):
        return [path.suffix for path in self.files()]

    def test_the_sync_comes_before_the_name_and_the_name_before_the_result(self):
        self.assertTrue(self.slow.is_syncing)
        self.assertEqual((self.names(), self.world_.results), ([".part"], []))
        (part,) = self.files()
        # New folders are synced as well, and so is a folder with a new name in it.
        self.assertEqual(self.slow.syncing, [{str(part), str(self.folder)}])
        self.slow.sync()
        self.assertEqual(self.names(), [""])
        self.assertIsNone(self.world_.results[0].error)
        Deferred.fromCoroutine(self.slow.disk.flush())
        self.slow.turn()
        self.assertEqual(self.slow.syncing[-1], {str(part.parent)})

    def test_a_failed_sync_fails_the_url(self):
        self.slow.sync(OSError(5, "Input/output error"))
        self.assertEqual(self.names(), [".part"])
        self.assertEqual(
            error_text(self.world_.results[0].error), "SaveFailed: Input/output error"
        )

    def test_a_failed_rename_fails_the_url(self):
        (part,) = self.files()
        part.with_suffix("").mkdir()
        self.slow.sync()
        self.assertIn("SaveFailed: Is a directory", error_text(self.world_.results[0].error))
        self.assertEqual(self.files(), [])

    def test_a_fetch_of_the_same_url_during_the_sync_has_its_own_part(self):
        self.slow.turn()
        self.world_.start("http://a/x")
        self.world_.run(1)
        self.assertEqual(len(self.files()), 2)
        self.slow.sync()
        self.slow.sync()
        self.assertEqual((self.names(), len(self.world_.results)), ([""], 2))

    def test_an_archive_and_a_file_are_both_waited_for(self):
        self.slow.sync()
        archive = WARCSink(self.folder / "x.warc", lambda *_: fail(OSError(28, "full")), "bot")
        self.world_.fetcher.sinks.append(archive)
        self.world_.start("http://a/x")
        self.world_.run(1)
        self.assertEqual(error_text(self.world_.results[1].error), "SaveFailed: full")
        self.slow.sync()


class NameTests(SynchronousTestCase):
    def name(self, text):
        return file_name(parse_url(text))

    def test_a_name_is_readable_and_keeps_its_extension(self):
        self.assertRegex(
            self.name("http://example.com/a/report.pdf"),
            r"^example\.com/report-[0-9a-f]{10}\.pdf$",
        )
        self.assertRegex(self.name("http://a:8080/"), r"^a_8080/index-[0-9a-f]{10}$")

    def test_two_urls_have_two_names(self):
        urls = ["http://a/x", "http://a/x?1", "http://a/x/", "http://a/y/x", "http://b/x"]
        names = [self.name(text) for text in [*urls, "http://u:p@a/x", "http://u:q@a/x"]]
        self.assertEqual(len(set(names)), len(names))

    def test_names_contain_no_path_traversal(self):
        for text in ("http://a/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "http://a/..%2f", "http://a/.rc"):
            folder, _, name = self.name(text).partition("/")
            self.assertEqual(folder, "a")
            self.assertNotIn("/", name)
            self.assertFalse(name.startswith("."), name)

    def test_a_long_name_is_cut(self):
        self.assertLess(len(self.name("http://a/" + "x" * 5000)), 120)
        self.assertLess(len(self.name("http://a/x." + "y" * 5000)), 120)

    def test_a_name_keeps_the_letters_of_any_script(self):
        table = [
            ("日本語.txt", "日本語", ".txt"),
            ("caf%C3%A9.html", "café", ".html"),
            ("caf%E9.html", "café", ".html"),
            ("e\u0301te\u0301", "été", ""),
            ("файл.док", "файл", ".док"),
            ("हिन्दी", "हिन्दी", ""),
            ("😀.png", "😀", ".png"),
            ("🇩🇪", "🇩🇪", ""),
            ("a b\u3000c\u2003d", "a_b_c_d", ""),
        ]
        for text, stem, extension in table:
            name = self.name(f"http://a/x/{text}")
            self.assertRegex(name, rf"^a/{stem}-[0-9a-f]{{10}}{extension}$")

    def test_a_name_has_nothing_that_terminals_or_other_systems_dislike(self):
        table = [
            ("evil\u202egpj.exe", "evil_gpj", ".exe"),
            ("a%00b%1B%5B2Jc%7F", "a_b_2Jc", ""),
            ("a%C2%85b\u2028c\u200bd\ufeffe", "a_b_c_d_e", ""),
            ("%2e%2e", "index", ""),
            ("-rf", "rf", ""),
            (".rc", "rc", ""),
            ("a%5Cb%3Ac%2Ad%3Fe%22f%3Cg%3Eh%7Ci", "a_b_c_d_e_f_g_h_i", ""),
            ("CON", "CON", ""),
            ("x.", "x", ""),
            ("%CC%81x", "x", ""),
            ("\ufffd", "index", ""),
            ("a\u2215b\uff0fc", "a\u2215b_c", ""),
        ]
        for text, stem, extension in table:
            name = self.name(f"http://a/{text}")
            self.assertRegex(name, rf"^a/{re.escape(stem)}-[0-9a-f]{{10}}{extension}$")

    def test_every_part_of_a_name_has_255_bytes_at_most(self):
        for text in ("é", "語", "😀", "x"):
            for more in ("", ".ext", f".{text * 10}", f".{text * 11}"):
                path = self.name(f"http://{'a.' * 126}b:8080/{text * 500}{more}")
                for part in f"{path}.part.json".split("/"):
                    self.assertLessEqual(len(part.encode()), 255)

    def test_names_that_fold_to_one_are_two_files(self):
        urls = ("/caf%C3%A9", "/cafe%CC%81", "/CAF%C3%89", "/caf%E9")
        names = {self.name(f"http://a{path}").casefold() for path in urls}
        self.assertEqual(len(names), 4)

    def test_an_ipv6_host_is_a_folder(self):
        self.assertRegex(self.name("http://[::1]:80/x"), r"^[0-9A-Za-z][^/]*/x-")

    @given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), max_size=40))
    def test_no_path_escapes(self, path):
        url = URL(Origin("http", "host", 80), "/" + path)
        target = Path("/base", file_name(url)).resolve()
        self.assertTrue(target.is_relative_to("/base/host"), target)


WHOLE = bytes(range(100)) * 10
SIZE, START = len(WHOLE), 400
LENGTH = (b"Content-Length", b"%d" % SIZE)
OTHER = b"another version" * 100


def ranged(start=START, end=SIZE, total=b"%d" % SIZE):
    return b"Content-Range", b"bytes %d-%d/%s" % (start, end - 1, total)


class ResumeTests(Case):
    """What a server may answer to a request for the rest of a file."""

    def setUp(self):
        super().setUp()
        self.patch(files, "_MIN_RESUMABLE", 1)

    def fetched(self, *answers, first=(ETAG, LENGTH)):
        """Return the result after a download that breaks off; `answers` are to what follows."""
        cut = Page(WHOLE[:START], headers=first, error=TruncatedBody("cut"))
        pages = [cut, *answers]
        world = self.world({"http://a/x": lambda _: pages.pop(0)})
        result = world.fetch("http://a/x")
        self.ranges = [request.headers.get(b"range") for request in world.client.requests]
        self.assertEqual(pages, [])
        return result

    def assert_saved(self, result, body):
        self.assertEqual((result.error, result.sha256), (None, sha256(body).hexdigest()))
        self.assertEqual([path.read_bytes() for path in self.files()], [body])

    def test_the_rest_is_appended(self):
        for lines in (
            (ETAG, ranged()),
            (ranged(),),
            (ranged(total=b"*"),),
            ((b"Content-Range", b"Bytes  400-999/1000"),),
        ):
            result = self.fetched(Page(WHOLE[START:], 206, lines))
            self.assertEqual(self.ranges, [None, b"bytes=400-"])
            self.assert_saved(result, WHOLE)

    def test_another_answer_with_a_part_is_followed_by_a_request_for_the_whole(self):
        rest = WHOLE[START:]
        multipart = (b"Content-Type", b"Multipart/ByteRanges; boundary=x")
        for page in (
            Page(rest, 206),
            Page(rest, 206, (ranged(START + 1, SIZE + 1),)),
            Page(rest, 206, (ranged(0, 600),)),
            Page(rest[:-1], 206, (ranged(),)),
            Page(rest + b"x", 206, (ranged(),)),
            Page(rest[:-1], 206, (ranged(end=SIZE - 1),)),
            Page(rest[:-1], 206, (ranged(end=SIZE - 1, total=b"*"),)),
            Page(rest[:-1], 206, (ranged(end=SIZE - 1, total=b"999"),)),
            Page(rest, 206, (ranged(total=b"2000"),)),
            Page(rest, 206, (ranged(), multipart)),
            Page(rest, 206, (ranged(), (b"ETag", b'"v2"'))),
            Page(rest, 206, (ranged(), (b"ETag", b'W/"v1"'))),
            Page(rest, 206, ((b"Content-Range", b"bytes 400-999"),)),
            Page(rest, 206, ((b"Content-Range", b"bytes %s-999/1000" % (b"4" * 5000)),)),
            Page(rest, 200, (ETAG, ranged())),
            Page(rest, 200, (ranged(),)),
            Page(rest, 200, (ranged(total=b"*"),)),
            Page(rest, 200, ((b"Content-Range", b"400-999"),)),
            Page(rest, 200, ((b"ETag", b'"v2"'), ranged())),
            Page(rest, 203, (ranged(),)),
            Page(rest, 200, (multipart,)),
            Page(rest, 200, (ETAG,)),
            Page(rest, 200),
            Page(b"", 416),
            Page(b"", 416, ((b"Content-Range", b"bytes */400"),)),
        ):
            result = self.fetched(page, Page(WHOLE, headers=(ETAG,)))
            self.assertEqual(self.ranges, [None, b"bytes=400-", None], page)
            self.assert_saved(result, WHOLE)

    def test_a_whole_file_replaces_the_part(self):
        modified = (b"Last-Modified", b"Sun, 02 Jan 2000 00:00:00 GMT")
        for body, *lines in (
            (WHOLE, ETAG),
            (WHOLE,),
            (WHOLE, ETAG, (b"Content-Range", b"bytes 0-999/1000")),
            (OTHER, (b"ETag", b'"v2"')),
            (b"short", (b"ETag", b'"v2"')),
            (b"short", modified),
        ):
            result = self.fetched(Page(body, headers=lines))
            self.assertEqual(self.ranges, [None, b"bytes=400-"])
            self.assert_saved(result, body)

    def test_the_size_in_the_end_is_compared_if_no_length_was_stated(self):
        chunked = (b"Transfer-Encoding", b"chunked")
        for page in (
            Page(WHOLE[START:], 200, (ETAG, chunked)),
            Page(WHOLE[START:-1], 206, (ranged(), chunked)),
            Page(WHOLE[START:] + b"x", 206, (ranged(), chunked)),
        ):
            self.assert_saved(self.fetched(page, Page(WHOLE, headers=(ETAG,))), WHOLE)
            self.assertEqual(self.ranges, [None, b"bytes=400-", None])
            self.assertEqual(self.sink.in_use, set())
        for page in (
            Page(WHOLE, headers=(chunked,)),
            Page(OTHER, headers=((b"ETag", b'"v2"'), chunked)),
            Page(WHOLE[START:], 206, (ranged(), chunked)),
        ):
            result = self.fetched(page)
            self.assert_saved(result, OTHER if page.body == OTHER else WHOLE)

    def test_a_part_of_unknown_length_is_resumed(self):
        result = self.fetched(Page(WHOLE[START:], 206, (ranged(),)), first=(ETAG,))
        self.assert_saved(result, WHOLE)
        self.assertEqual(self.ranges, [None, b"bytes=400-"])
        result = self.fetched(Page(WHOLE[: START - 1]), Page(WHOLE), first=(ETAG,))
        self.assert_saved(result, WHOLE)
        self.assertEqual(self.ranges, [None, b"bytes=400-", None])

    def test_a_part_that_was_not_asked_for_is_an_error(self):
        for page in (
            Page(b"x", 206),
            Page(b"x", 206, (ranged(),)),
            Page(WHOLE[START:], 200, (ranged(),)),
            Page(WHOLE[:START], 200, (ranged(0, START),)),
            Page(b"x", 200, ((b"Content-Range", b"bytes 0-0/*"),)),
        ):
            result = self.world({"http://a/x": page}).fetch("http://a/x")
            self.assertIn("SaveFailed: the server sent a part", result.as_json())
            self.assertEqual((result.tries, self.files()), (1, []))

    def test_the_rest_is_requested_from_the_same_url_only(self):
        cut = Page(WHOLE[:START], headers=(ETAG, LENGTH), error=TruncatedBody("cut"))
        world = self.world({"http://a/x": redirect("/1"), "http://a/1": cut})
        world.start("http://a/x")
        world.run(0.5)
        world.fetcher.close()
        self.assertEqual(len(self.files()), 2)
        pages = {"http://a/x": redirect("/2"), "http://a/2": Page(OTHER, headers=(ETAG,))}
        world = self.world(pages)
        result = world.fetch("http://a/x")
        self.assertEqual(
            [each.headers.get(b"range") for each in world.client.requests], [None] * 2
        )
        self.assert_saved(result, OTHER)

    def test_a_part_as_long_as_the_whole_is_fetched_again(self):
        length = (b"Content-Length", b"%d" % START)
        self.assert_saved(self.fetched(Page(WHOLE), first=(ETAG, length)), WHOLE)
        self.assertEqual(self.ranges, [None, None])


def head(*lines, status=206, encoding=None):
    return Head(status, b"", "1.1", Headers(list(lines)), None, encoding)


MODIFIED = (b"Last-Modified", b"Sat, 01 Jan 2000 00:00:00 GMT")
LATER = (b"Date", b"Sat, 01 Jan 2000 00:01:00 GMT")


class ValidatorTests(SynchronousTestCase):
    def test_a_strong_etag_is_preferred(self):
        self.assertEqual(Validator.of(head(ETAG, MODIFIED)).if_range, b'"v1"')

    def test_a_weak_etag_is_not_a_validator(self):
        self.assertIsNone(Validator.of(head((b"ETag", b'W/"v1"'))))
        weak = head((b"ETag", b'W/"v1"'), MODIFIED, LATER)
        self.assertEqual(Validator.of(weak).if_range, MODIFIED[1])

    def test_a_recent_last_modified_is_not_a_validator(self):
        for date in (
            MODIFIED[1],
            b"Sat, 01 Jan 2000 00:00:59 GMT",
            b"Sat, 01 Jan 2000 00:02:00",  # no time zone
            b"today",
        ):
            self.assertIsNone(Validator.of(head(MODIFIED, (b"Date", date))), date)
        self.assertIsNone(Validator.of(head(MODIFIED)))
        self.assertIsNone(Validator.of(head(LATER)))

    def test_a_compressed_body_has_no_validator(self):
        self.assertIsNone(Validator.of(head(ETAG, encoding=b"gzip")))

    def test_versions_are_distinguished(self):
        validator = Validator.of(head(ETAG, MODIFIED))
        self.assertTrue(validator.matches(head(ETAG)))
        self.assertTrue(validator.matches(head()))
        self.assertTrue(validator.matches(head(MODIFIED)))
        self.assertFalse(validator.matches(head((b"ETag", b'"v2"'))))
        self.assertFalse(validator.matches(head((b"Last-Modified", b"today"))))
        self.assertFalse(validator.matches(head(encoding=b"gzip")))


class PartialTests(SynchronousTestCase):
    partial = PartialFile(5, Validator('"v1"'))

    def test_its_headers_request_the_rest(self):
        self.assertEqual(self.partial.headers, ((b"Range", b"bytes=5-"), (b"If-Range", b'"v1"')))

    def test_only_a_range_that_begins_at_its_end_continues_it(self):
        table = [
            (b"bytes 5-9/10", True),
            (b"bytes 5-9/*", True),
            (b"bytes 4-9/10", False),
            (b"bytes 5-8/10", False),
            (b"items 5-9/10", False),
            (b"", False),
        ]
        for value, fits in table:
            response = head((b"Content-Range", value))
            self.assertEqual(self.partial.is_continued_by(response), fits, value)
        other = head((b"Content-Range", b"bytes 5-9/10"), (b"ETag", b'"v2"'))
        self.assertFalse(self.partial.is_continued_by(other))

    def test_a_validator_survives_a_round_trip(self):
        part, notes = Path(self.mktemp()), Path(self.mktemp())
        part.write_bytes(b"12345")
        write_validator(notes, Validator('"v1"'))
        self.assertEqual(read_partial(part, notes), self.partial)

    def test_an_invalid_validator_file_is_ignored(self):
        part, notes = Path(self.mktemp()), Path(self.mktemp())
        self.assertIsNone(read_partial(part, notes))
        part.write_bytes(b"12345")
        for text in (
            *("", "[]", "{}", '{"etag": null, "last_modified": null}'),
            *('{"etag": 1}', '{"etag": "\u20ac"}', '{"etag": "x", "length": "5"}', '{"tag": "x"}'),
        ):
            notes.write_text(text)
            self.assertIsNone(read_partial(part, notes), text)
        part.write_bytes(b"")
        write_validator(notes, Validator('"v1"'))
        self.assertIsNone(read_partial(part, notes))


class PrivateFolderTests(SynchronousTestCase):
    def setUp(self):
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def names(self):
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*"))

    def test_each_run_has_its_own_private_folder_and_removes_it(self):
        first, second = make_private_folder(self.folder), make_private_folder(self.folder)
        self.assertNotEqual(first, second)
        remove_private_folder(first)
        self.assertEqual(self.names(), [second.name])

    def test_only_stale_folders_are_removed(self):
        used = make_private_folder(self.folder)
        (used / "x.part").write_bytes(b"x")
        for left in (".evserve-parts-1", ".evserve-parts-2"):
            (self.folder / left).mkdir()
            (self.folder / left / "y.part.2").write_bytes(b"y")
        remove_stale_folders(self.folder)
        self.assertEqual(self.names(), [used.name, f"{used.name}/x.part"])

    def test_other_files_are_not_removed(self):
        (self.folder / "a.part").write_bytes(b"x")
        (self.folder / ".evserve-parts-file").write_bytes(b"x")
        (self.folder / ".evserve-parts-full" / "folder").mkdir(parents=True)
        (self.folder / "elsewhere").mkdir()
        (self.folder / "elsewhere" / "x").write_bytes(b"x")
        (self.folder / ".evserve-parts-link").symlink_to("elsewhere")
        (self.folder / ".parts-mine").mkdir()
        (self.folder / ".parts-mine" / "x.part").write_bytes(b"x")
        (self.folder / ".evserve-parts-mine").mkdir()
        (self.folder / ".evserve-parts-mine" / "x.party").write_bytes(b"x")
        before = self.names()
        remove_stale_folders(self.folder)
        self.assertEqual(self.names(), before)

    def test_the_folder_of_another_user_is_not_removed(self):
        (self.folder / ".evserve-parts-1").mkdir()
        self.patch(os, "geteuid", lambda: os.getuid() + 1)
        remove_stale_folders(self.folder)
        self.assertEqual(self.names(), [".evserve-parts-1"])

    def test_a_folder_replaced_by_a_link_is_not_followed(self):
        left, other = self.folder / ".evserve-parts-1", self.folder / "other"
        left.mkdir()
        other.mkdir()
        (other / "x.part").write_bytes(b"x")

        def lock(descriptor):
            left.rmdir()
            left.symlink_to("other")
            return True

        self.patch(files, "lock", lock)
        remove_stale_folders(self.folder)
        self.assertTrue((other / "x.part").exists())

    def test_a_folder_that_cannot_be_listed_is_ignored(self):
        remove_stale_folders(self.folder / "none")

    def test_a_private_folder_removed_before_its_lock_is_made_again(self):
        made = []

        def mkdtemp(prefix, dir):  # noqa: A002 - the library's name
            path = dir / f"{prefix}{len(made)}"
            path.mkdir()
            made.append(path)
            if len(made) == 1:
                remove_stale_folders(dir)
            return str(path)

        self.patch(files, "mkdtemp", mkdtemp)
        self.assertEqual(make_private_folder(self.folder), made[1])
        self.assertEqual([path.exists() for path in made], [False, True])
