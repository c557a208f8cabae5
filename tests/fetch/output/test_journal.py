"""Finished URLs and output sizes, from run to run."""

import json
import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from evserve.fetch.output.journal import (
    Journal,
    JournalEntry,
    JournalError,
    OutputPaths,
    OutputSizes,
)


class JournalTests(SynchronousTestCase):
    def setUp(self):
        self.path = Path(self.mktemp())

    def open(self):
        journal = Journal.open(self.path)
        self.addCleanup(journal.close)
        return journal

    def test_the_next_run_skips_final_urls(self):
        journal = self.open()
        journal.begin(OutputPaths(), OutputSizes())
        journal.add([JournalEntry("http://a/", OutputSizes(), is_final=True)])
        journal.add([JournalEntry("http://b/", OutputSizes(), is_final=False)])
        journal.close()
        journal = self.open()
        self.assertFalse(journal.urls.add("http://a/"))
        self.assertTrue(journal.urls.add("http://b/"))
        self.assertEqual(journal.finished, 1)

    def test_outputs_continue_after_the_sizes_in_the_journal(self):
        journal = self.open()
        self.assertEqual(journal.sizes(OutputPaths("rows", "warc")), OutputSizes(None, None))
        journal.begin(OutputPaths("rows", "warc"), OutputSizes())
        journal.add([JournalEntry("http://a/", OutputSizes(10, 20), is_final=True)])
        journal.close()
        journal = self.open()
        self.assertEqual(journal.sizes(OutputPaths("rows", "other")), OutputSizes(10, None))
        journal.begin(OutputPaths("rows", "other"), OutputSizes(10, 0))
        journal.close()
        journal = self.open()
        self.assertEqual(journal.sizes(OutputPaths("rows", "other")), OutputSizes(10, 0))

    def test_sizes_of_an_output_survive_runs_with_other_outputs(self):
        journal = self.open()
        journal.begin(OutputPaths("rows", "warc"), OutputSizes())
        journal.add([JournalEntry("http://a/", OutputSizes(10, 20), is_final=True)])
        journal.begin(OutputPaths(), OutputSizes())
        journal.begin(OutputPaths("others"), OutputSizes())
        journal.add([JournalEntry("http://b/", OutputSizes(7, 0), is_final=True)])
        journal.close()
        journal = self.open()
        self.assertEqual(journal.sizes(OutputPaths("rows", "warc")), OutputSizes(10, 20))
        self.assertEqual(journal.sizes(OutputPaths("others")), OutputSizes(7, 0))

    def test_an_incomplete_last_line_is_cut_off(self):
        journal = self.open()
        journal.begin(OutputPaths(), OutputSizes())
        journal.add([JournalEntry("http://a/", OutputSizes(), is_final=True)])
        journal.close()
        whole = self.path.read_bytes()
        self.path.write_bytes(whole + b'{"url": "http://b/", "fi')
        self.open().close()
        self.assertEqual(self.path.read_bytes(), whole)

    def test_a_file_that_is_not_a_journal_is_refused_unchanged(self):
        lengths = ('["a", 0]', "[-1, 0]", "[0]", "[0, null]")
        runs = (f'{{"run": {{}}, "ends": {each}}}\n' for each in lengths)
        for text in ("hello\n", "[]\n", '{"url": 1}\n', "7\n", *runs):
            self.path.write_text(text)
            error = self.assertRaises(JournalError, Journal.open, self.path)
            self.assertEqual(str(error), f"{self.path}, line 1: not a line of a fetch journal")
            self.assertEqual(self.path.read_text(), text)

    def test_a_journal_in_use_is_refused(self):
        self.open()
        error = self.assertRaises(OSError, Journal.open, self.path)
        self.assertEqual(
            (error.strerror, error.filename), ("already being written to", str(self.path))
        )

    def test_a_pipe_is_refused_without_waiting(self):
        os.mkfifo(self.path)
        for path in (self.path, Path("/dev/null")):
            error = self.assertRaises(OSError, Journal.open, path)
            self.assertEqual((error.strerror, error.filename), ("it must be a file", str(path)))

    def test_a_write_error_names_the_journal(self):
        journal = self.open()
        journal.close()

        class Full:
            close = staticmethod(lambda: None)

            def write(self, data):
                raise OSError(28, "No space left on device")

        journal._file = Full()
        error = self.assertRaises(OSError, journal.begin, OutputPaths(), OutputSizes())
        self.assertEqual(error.filename, str(self.path))

    def test_every_line_is_json(self):
        journal = self.open()
        journal.begin(OutputPaths("rows"), OutputSizes())
        journal.add([JournalEntry('http://a/"\u00fc', OutputSizes(1, 2), is_final=False)] * 2)
        lines = [json.loads(line) for line in self.path.read_text().splitlines()]
        self.assertEqual(lines[0], {"run": {"output": "rows", "warc": None}, "ends": [0, 0]})
        self.assertEqual(lines[1], {"url": 'http://a/"\u00fc', "final": False, "ends": [1, 2]})
        self.assertEqual(lines[1], lines[2])

    def test_zeros_after_a_power_cut_are_cut_off(self):
        journal = self.open()
        journal.begin(OutputPaths(), OutputSizes())
        journal.close()
        whole = self.path.read_bytes()
        self.path.write_bytes(whole + bytes(500))
        self.open().close()
        self.assertEqual(self.path.read_bytes(), whole)
