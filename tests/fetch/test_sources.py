"""Lists, files and streams."""

import os
import sys
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from evserve.fetch.output.recorder import write_error_message
from evserve.fetch.sources import FileSource, ListSource, StreamSource
from evserve.http.errors import BadURL
from evserve.http.url import MAX_LENGTH, parse_url


class Readers:
    """A reactor's readers."""

    def __init__(self):
        self.reading = None

    def addReader(self, reader):
        self.reading = reader

    def removeReader(self, reader):
        self.reading = None


class StreamTests(SynchronousTestCase):
    def setUp(self):
        self.output, self.input = os.pipe()
        self.addCleanup(os.close, self.output)
        self.reactor = Readers()
        self.source = StreamSource(self.reactor, self.output, "-i -")

    def next_batch(self):
        return Deferred.fromCoroutine(self.source.next_batch())

    def write(self, data):
        os.write(self.input, data)
        self.reactor.reading.doRead()

    def test_a_line_is_returned_when_it_is_complete(self):
        batch = self.next_batch()
        self.write(b"http://a/\nhttp")
        self.assertEqual(self.successResultOf(batch), ["http://a/"])
        self.assertIsNone(self.reactor.reading)  # nothing is read ahead
        batch = self.next_batch()
        self.write(b"://b/")
        self.assertNoResult(batch)
        self.write(b"\n")
        self.assertEqual(self.successResultOf(batch), ["http://b/"])

    def test_the_last_line_needs_no_end(self):
        batch = self.next_batch()
        self.write(b"http://a/")
        os.close(self.input)
        self.reactor.reading.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.successResultOf(batch), ["http://a/"])
        self.assertEqual(self.successResultOf(self.next_batch()), [])

    def test_a_read_of_zero_bytes_is_the_end(self):
        os.close(self.input)
        batch = self.next_batch()
        self.reactor.reading.doRead()
        self.assertEqual(self.successResultOf(batch), [])

    def test_a_line_without_end_is_cut(self):
        self.addCleanup(os.close, self.input)
        batch = self.next_batch()
        for _ in range(100):
            self.write("ü".encode() * 5000)
        self.assertNoResult(batch)
        self.assertLess(sys.getsizeof(self.source._splitter._rest), 300_000)
        self.write(b"\nhttp://a/\n")
        long, url = self.successResultOf(batch)
        self.assertRaises(BadURL, parse_url, long)
        self.assertEqual((len(long), url), (MAX_LENGTH + 1, "http://a/"))

    def test_utf_16_with_a_byte_order_mark_is_read(self):
        """As PowerShell writes files."""
        for encoding in ("utf-16", "utf-16-be"):
            path = Path(self.mktemp())
            text = "\ufeff" * (encoding != "utf-16") + "http://a/ü\r\n#\r\nhttp://b/"
            path.write_bytes(text.encode(encoding))
            found = Deferred.fromCoroutine(FileSource(path).next_batch())
            self.assertEqual(self.successResultOf(found), ["http://a/ü", "http://b/"])
        os.close(self.input)

    def test_a_byte_order_mark_is_skipped(self):
        batch = self.next_batch()
        self.write(b"\xef\xbb\xbfhttp://a/\r\n\xef\xbb\xbfx\n")
        self.assertEqual(self.successResultOf(batch), ["http://a/", "\ufeffx"])
        os.close(self.input)

    def test_a_read_error_comes_after_the_lines_before_it(self):
        self.addCleanup(os.close, self.input)
        batch = self.next_batch()
        self.write(b"http://a/\nhttp://b/")
        self.assertEqual(self.successResultOf(batch), ["http://a/"])
        batch = self.next_batch()
        self.source._descriptor = self.input  # which is only written to
        self.reactor.reading.doRead()
        self.assertEqual(self.successResultOf(batch), ["http://b/"])
        error = self.failureResultOf(self.next_batch(), OSError).value
        self.assertEqual(write_error_message(error), "-i -: Bad file descriptor")

    def test_a_read_that_would_block_is_not_the_end(self):
        self.addCleanup(os.close, self.input)
        os.set_blocking(self.output, False)
        batch = self.next_batch()
        self.reactor.reading.doRead()
        self.assertNoResult(batch)
        self.write(b"http://a/\n")
        self.assertEqual(self.successResultOf(batch), ["http://a/"])

    def test_invalid_utf_8_is_kept(self):
        batch = self.next_batch()
        self.write(b"http://a/\xe4\n")
        (url,) = self.successResultOf(batch)
        self.assertEqual(parse_url(url).target, "/%E4")
        os.close(self.input)


class OtherSourceTests(SynchronousTestCase):
    def all_of(self, source):
        async def read():
            batches = []
            while batch := await source.next_batch():
                batches.append(batch)
            return batches

        return self.successResultOf(Deferred.fromCoroutine(read()))

    def test_a_list_is_one_batch(self):
        self.assertEqual(self.all_of(ListSource(["a", "b"])), [["a", "b"]])

    def test_a_file_is_read_in_batches_without_comments(self):
        path = Path(self.mktemp())
        path.write_text("\n# no\n" + "".join(f" http://a/{number} \n" for number in range(1200)))
        self.assertEqual([len(batch) for batch in self.all_of(FileSource(path))], [500, 500, 200])

    def test_long_lines_and_blanks_of_a_file_are_handled(self):
        path = Path(self.mktemp())
        long = b"http://a/" + b"x" * 1_000_000
        lines = [
            b"\xef\xbb\xbfhttp://a/",
            b"",
            b"\t",
            b" #no",
            long,
            b"#" + long,
            b"http://a/\xe4",
        ]
        path.write_bytes(b"\r\n".join(lines))
        ((first, cut, last),) = self.all_of(FileSource(path))
        self.assertEqual((first, parse_url(last).target), ("http://a/", "/%E4"))
        self.assertEqual(len(cut), MAX_LENGTH + 1)
        error = self.assertRaises(BadURL, parse_url, cut)
        self.assertEqual(str(error), "longer than 65536 characters")

    def test_a_missing_file_is_an_error_at_once(self):
        self.assertRaises(FileNotFoundError, FileSource, Path("none"))
