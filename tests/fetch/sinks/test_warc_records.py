"""Where whole records end, and archives that somebody has cut short."""

import gzip
from pathlib import Path

from twisted.internet.defer import execute
from twisted.trial.unittest import SynchronousTestCase
from warcio.checker import Checker

from evserve.fetch.memory import Page
from evserve.fetch.sinks.warc import Archive
from evserve.fetch.sinks.warc_records import whole_records
from tests.fetch.polite_world import World


PAGES = {f"http://a/{number}": Page(b"%d" % number * 5000) for number in range(3)}


class Case(SynchronousTestCase):
    def archive(self, path, end=0):
        return Archive(path, execute, "testbot", end=end)

    def filled(self, name, pages):
        """Return an archive's path, and after how many bytes each of its pages ends."""
        path = Path(self.mktemp() + name)
        archive = self.archive(path)
        ends = []
        for url in pages:
            World(PAGES, stores=[archive]).fetch(url)
            ends.append(archive.end)
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
    def test_half_a_record_is_none(self):
        for name in (".warc", ".warc.gz"):
            path, (first, second) = self.filled(name, list(PAGES)[:2])
            is_gzip = name.endswith("gz")
            self.assertEqual(whole_records(path, gzip=is_gzip), second)
            whole = path.read_bytes()
            found = []
            for end in range(first, second, 7):
                path.write_bytes(whole[:end])
                found.append(whole_records(path, gzip=is_gzip))
            # The end of the first pair, and the end of the next response.
            self.assertEqual((found[0], len(set(found))), (first, 2))
            path.write_bytes(whole[:first] + b"rubbish")
            self.assert_refused(path, first, gzip=is_gzip)

    def assert_refused(self, path, place, **how):
        error = self.assertRaises(OSError, whole_records, path, **how)
        what = f"no WARC record at byte {place}, so none can be added"
        self.assertEqual((error.strerror, error.filename), (what, str(path)))

    def test_an_archive_with_a_hole_in_it_is_refused(self):
        for name in (".warc", ".warc.gz"):
            path, (first, _) = self.filled(name, list(PAGES)[:2])
            whole = path.read_bytes()
            path.write_bytes(whole[:first] + bytes(200) + whole[first + 200 :])
            self.assert_refused(path, first, gzip=name.endswith("gz"))

    def test_what_is_no_archive_is_refused(self):
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

    def test_the_beginning_of_the_first_record_is_no_record(self):
        path = Path(self.mktemp())
        head = b"WARC/1.1\r\n"
        for text in (b"", b"WA", head, head + b"Content-Length: 5\r\n\r\nhello\r\n\r"):
            path.write_bytes(text)
            self.assertEqual(whole_records(path, gzip=False), 0, text)
        for text in (b"", b"\x1f", gzip.compress(head)[:-1]):
            path.write_bytes(text)
            self.assertEqual(whole_records(path, gzip=True), 0, text)

    def test_a_long_record_that_compresses_well_is_read_to_its_end(self):
        path = Path(self.mktemp())
        whole = gzip.compress(b"WARC/1.1\r\n" + bytes(10_000_000))
        for tail in (b"", whole[:-1]):
            path.write_bytes(whole + tail)
            self.assertEqual(whole_records(path, gzip=True), len(whole))


class CutTests(Case):
    def test_an_archive_that_was_cut_short_goes_on_after_its_last_whole_record(self):
        for name in (".warc", ".warc.gz"):
            path, (first, second) = self.filled(name, list(PAGES)[:2])
            path.write_bytes(path.read_bytes()[: first + 20])
            archive = self.archive(path, end=second)
            self.assertEqual(archive.end, first)
            self.assertIsNone(World(PAGES, stores=[archive]).fetch("http://a/2").error)
            self.successResultOf(archive.close())
            self.assert_valid(path)

    def test_an_archive_that_is_gone_begins_anew(self):
        path, (end,) = self.filled(".warc", ["http://a/0"])
        whole = len(path.read_bytes())
        for leave in (path.unlink, lambda: path.write_bytes(b"")):
            leave()
            archive = self.archive(path, end)
            self.assertIsNone(World(PAGES, stores=[archive]).fetch("http://a/0").error)
            self.successResultOf(archive.close())
            self.assertEqual(path.stat().st_size, whole)
            self.assert_valid(path)

    def test_an_archive_that_was_there_before_is_added_to(self):
        path, (end,) = self.filled(".warc.gz", ["http://a/0"])
        before = path.read_bytes()
        archive = self.archive(path, None)
        self.assertEqual(archive.end, end)
        World(PAGES, stores=[archive]).fetch("http://a/1")
        self.successResultOf(archive.close())
        self.assertTrue(path.read_bytes().startswith(before))
        self.assert_valid(path)

    def test_an_archive_that_a_killed_run_left_goes_on_after_its_last_whole_record(self):
        path, (end,) = self.filled(".warc", ["http://a/0"])
        path.write_bytes(path.read_bytes() + path.read_bytes()[:1000])
        archive = self.archive(path, None)
        # What says who wrote the archive is a whole record.
        self.assertGreater(archive.end, end)
        World(PAGES, stores=[archive]).fetch("http://a/1")
        self.successResultOf(archive.close())
        self.assert_valid(path)

    def test_what_is_no_archive_is_not_touched(self):
        path = Path(self.mktemp())
        path.write_bytes(b"a letter")
        for begins in (None, 1000):
            self.assertRaises(OSError, self.archive, path, begins)
            self.assertEqual(path.read_bytes(), b"a letter")
