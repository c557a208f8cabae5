"""Numbers with units."""

from twisted.trial.unittest import SynchronousTestCase

from evserve.lab.report.units import format_duration, format_number, format_size


class UnitTests(SynchronousTestCase):
    def test_three_digits_and_a_unit(self):
        self.assertEqual(format_duration(0.0000123), "12.3 µs")
        self.assertEqual(format_duration(0.1), "100 ms")
        self.assertEqual(format_duration(2), "2 s")
        self.assertEqual(format_duration(0.0009999), "1 ms")
        self.assertEqual(format_duration(0), "0 ns")
        self.assertEqual(format_size(1234), "1.23 kB")
        self.assertEqual(format_size(-5), "-5 B")
        self.assertEqual(
            [format_number(n) for n in (1, 10, 999, 3_000, 10_000)],
            ["1", "10", "999", "3k", "10k"],
        )
