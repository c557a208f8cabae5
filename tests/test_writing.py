"""Printing to streams that are full or closed."""

import io

from twisted.trial.unittest import SynchronousTestCase

from evserve.writing import STDERR, UnwritableError, print_to


class Full(io.StringIO):
    def write(self, text):
        raise OSError(28, "No space left on device")


class PrintTests(SynchronousTestCase):
    def refusal(self, stream, *name):
        return str(self.assertRaises(UnwritableError, print_to, stream, "text", *name))

    def test_text_is_flushed(self):
        stream = io.StringIO()
        print_to(stream, "text")
        self.assertEqual(stream.getvalue(), "text")

    def test_an_unwritable_stream_is_named(self):
        self.assertEqual(self.refusal(Full()), "standard output: No space left on device")
        self.assertEqual(self.refusal(Full(), STDERR), "standard error: No space left on device")

    def test_a_stream_that_was_closed_from_the_start(self):
        self.assertEqual(self.refusal(None), "standard output: Bad file descriptor")
