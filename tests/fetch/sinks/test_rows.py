"""The rows of `-o`."""

import json
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from evserve.fetch.result import Result
from evserve.fetch.sinks.rows import RowFile


class RowFileTests(SynchronousTestCase):
    def test_rows_are_appended_after_the_end(self):
        path = Path(self.mktemp())
        rows = RowFile.open(path)
        rows.write(rows.encode("one"))
        end = rows.end
        rows.write(rows.encode("torn"))
        rows.close()
        rows = RowFile.open(path, end)
        rows.write(rows.encode("two"))
        rows.close()
        self.assertEqual(path.read_text(), "one\ntwo\n")

    def test_a_file_that_is_gone_begins_anew(self):
        path = Path(self.mktemp())
        rows = RowFile.open(path, 100)
        rows.write(rows.encode("one"))
        rows.close()
        self.assertEqual(path.read_text(), "one\n")

    def test_a_file_that_is_shorter_goes_on_where_it_ends(self):
        for text, expected in (("one\n", "one\ntwo\n"), ("on", "on\ntwo\n")):
            self.assertEqual(self.appended(text, 100), expected)

    def test_a_file_it_does_not_know_is_added_to(self):
        for text, expected in (("", "two\n"), ("one\n", "one\ntwo\n"), ("on", "on\ntwo\n")):
            self.assertEqual(self.appended(text, None), expected)

    def appended(self, text, end):
        path = Path(self.mktemp())
        path.write_text(text)
        rows = RowFile.open(path, end)
        rows.write(rows.encode("two"))
        rows.close()
        self.assertEqual(rows.end, path.stat().st_size)
        return path.read_text()

    def test_two_do_not_write_to_one_file(self):
        path = Path(self.mktemp())
        rows = RowFile.open(path)
        self.addCleanup(rows.close)
        rows.write(rows.encode("one"))
        error = self.assertRaises(OSError, RowFile.open, path)
        self.assertEqual((error.strerror, error.filename), ("already being written to", str(path)))
        self.assertEqual(path.read_text(), "one\n")

    def test_a_disk_that_is_full_is_named(self):
        rows = RowFile.open(Path("/dev/full"))
        self.addCleanup(rows.close)
        error = self.assertRaises(OSError, rows.write, b"one\n")
        self.assertEqual(error.filename, "/dev/full")

    def test_what_is_written_by_halves_is_written_on(self):
        class Slow:
            data = b""

            def write(self, data):
                self.data += data[:2]
                return len(data[:2])

        rows = RowFile(Slow())
        rows.write(rows.encode("hello"))
        self.assertEqual((rows._out.data, rows.end), (b"hello\n", 6))


class ResultTests(SynchronousTestCase):
    def test_a_row_has_its_eight_keys_and_a_path_if_there_is_one(self):
        row = json.loads(Result("http://a/").as_json())
        keys = "url status_code content_length final_url elapsed tries sha256 error"
        self.assertEqual(list(row), keys.split())
        self.assertEqual(json.loads(Result("http://a/", path="x").as_json())["path"], "x")

    def test_passing_trouble_is_not_final(self):
        self.assertTrue(Result("u", 404, sha256="x", error="BadStatus: 404").is_final)
        self.assertFalse(Result("u", 503, sha256="x", error="BadStatus: 503").is_final)
