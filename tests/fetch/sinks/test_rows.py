"""The rows of `-o`."""

import json
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from evserve.fetch.result import Result
from evserve.fetch.sinks.rows import RowFile


class RowFileTests(SynchronousTestCase):
    def open(self, path, end=0):
        rows = RowFile.open(path, Clock(), end)
        self.addCleanup(rows.outlet.close)
        return rows

    def write(self, rows, line):
        rows.outlet.write(rows.encode(line), self.assertIsNone)

    def test_rows_are_appended_after_the_end(self):
        path = Path(self.mktemp())
        rows = self.open(path)
        self.write(rows, "one")
        end = rows.end
        self.write(rows, "torn")
        rows.outlet.close()
        self.write(self.open(path, end), "two")
        self.assertEqual(path.read_text(), "one\ntwo\n")

    def test_a_file_that_is_gone_begins_anew(self):
        path = Path(self.mktemp())
        rows = self.open(path, 100)
        self.write(rows, "one")
        self.assertEqual((path.read_text(), rows.end), ("one\n", 4))

    def test_a_file_that_is_shorter_goes_on_where_it_ends(self):
        for text, expected in (("one\n", "one\ntwo\n"), ("on", "on\ntwo\n")):
            self.assertEqual(self.appended(text, 100), expected)

    def test_a_file_it_does_not_know_is_added_to(self):
        for text, expected in (("", "two\n"), ("one\n", "one\ntwo\n"), ("on", "on\ntwo\n")):
            self.assertEqual(self.appended(text, None), expected)

    def appended(self, text, end):
        path = Path(self.mktemp())
        path.write_text(text)
        rows = self.open(path, end)
        self.write(rows, "two")
        self.assertEqual(rows.end, path.stat().st_size)
        return path.read_text()

    def test_two_do_not_write_to_one_file(self):
        path = Path(self.mktemp())
        self.write(self.open(path), "one")
        error = self.assertRaises(OSError, self.open, path)
        self.assertEqual((error.strerror, error.filename), ("already being written to", str(path)))
        self.assertEqual(path.read_text(), "one\n")

    def test_a_disk_that_is_full_is_named(self):
        told = []
        self.open(Path("/dev/full")).outlet.write(b"one\n", told.append)
        self.assertEqual(told[0].filename, "/dev/full")


class ResultTests(SynchronousTestCase):
    def test_a_row_has_its_eight_keys_and_a_path_if_there_is_one(self):
        row = json.loads(Result("http://a/").as_json())
        keys = "url status_code content_length final_url elapsed tries sha256 error"
        self.assertEqual(list(row), keys.split())
        self.assertEqual(json.loads(Result("http://a/", path="x").as_json())["path"], "x")

    def test_passing_trouble_is_not_final(self):
        self.assertTrue(Result("u", 404, sha256="x", error="BadStatus: 404").is_final)
        self.assertFalse(Result("u", 503, sha256="x", error="BadStatus: 503").is_final)
