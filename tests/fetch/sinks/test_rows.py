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
        self.write(self.open(path, end), "two")
        self.assertEqual(path.read_text(), "one\ntwo\n")

    def test_a_file_that_is_gone_begins_anew(self):
        path = Path(self.mktemp())
        rows = self.open(path, 100)
        self.write(rows, "one")
        self.assertEqual((path.read_text(), rows.end), ("one\n", 4))


class ResultTests(SynchronousTestCase):
    def test_a_row_has_its_eight_keys_and_a_path_if_there_is_one(self):
        row = json.loads(Result("http://a/").as_json())
        keys = "url status_code content_length final_url elapsed tries sha256 error"
        self.assertEqual(list(row), keys.split())
        self.assertEqual(json.loads(Result("http://a/", path="x").as_json())["path"], "x")

    def test_passing_trouble_is_not_final(self):
        self.assertTrue(Result("u", 404, sha256="x", error="BadStatus: 404").is_final)
        self.assertFalse(Result("u", 503, sha256="x", error="BadStatus: 503").is_final)
