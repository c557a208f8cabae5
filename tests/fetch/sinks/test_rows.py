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
