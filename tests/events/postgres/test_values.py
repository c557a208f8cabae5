from struct import unpack

from twisted.trial.unittest import SynchronousTestCase

from evserve.events.postgres import values


class ArrayTests(SynchronousTestCase):
    """The layout is that of array_recv (src/backend/utils/adt/arrayfuncs.c)."""

    def test_an_array_has_its_type_length_and_sized_elements(self):
        expected = (1, 0, values.INT8, 2, 1, 8, 7, 8, -1)
        self.assertEqual(unpack("!iiiiiiqiq", values.int8_array([7, -1])), expected)
        expected = (1, 0, values.FLOAT8, 1, 1, 8, 0.5)
        self.assertEqual(unpack("!iiiiiid", values.float8_array([0.5])), expected)
        self.assertEqual(
            values.bytea_array([b"ab", b""]),
            b"\0\0\0\1\0\0\0\0\0\0\0\x11\0\0\0\2\0\0\0\1\0\0\0\2ab\0\0\0\0",
        )

    def test_an_empty_array_has_no_dimension(self):
        for array, oid in ((values.int4_array, values.INT4), (values.text_array, values.TEXT)):
            self.assertEqual(unpack("!iii", array([])), (0, 0, oid))
