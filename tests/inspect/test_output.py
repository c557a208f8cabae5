import io
import json

from twisted.trial.unittest import SynchronousTestCase

from evserve.inspect.output import Column, Output, body_text, data_fields, duration, escaped
from tests.load.streams import Terminal


COLUMNS = [
    Column("type", lambda record: record["type"]),
    Column("n", lambda r: r["n"], right=True),
]


class TableTests(SynchronousTestCase):
    records = ({"type": "mail", "n": "1"}, {"type": "\x1b[31mred [bold]", "n": "20"})

    def test_columns_are_aligned(self):
        stream = io.StringIO()
        Output(stream).rows(self.records[:1], COLUMNS, {"type": "total", "n": "21"})
        self.assertEqual(stream.getvalue(), "type    n\nmail    1\ntotal  21\n")

    def test_a_terminal_is_not_controlled_by_what_is_shown(self):
        for stream in (io.StringIO(), Terminal()):
            Output(stream).rows(self.records, COLUMNS)
            self.assertIn("\\x1b[31mred [bold]", stream.getvalue())
            self.assertNotIn("\x1b[31m", stream.getvalue())

    def test_json_has_a_line_for_each_record(self):
        stream = io.StringIO()
        Output(stream, json=True).rows(self.records, COLUMNS, {"type": "total", "n": "21"})
        self.assertEqual(
            [json.loads(line) for line in stream.getvalue().splitlines()], [*self.records]
        )

    def test_what_the_encoding_of_the_stream_lacks_is_escaped(self):
        stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
        Output(stream).line("é")
        self.assertEqual(stream.buffer.getvalue(), b"\\xe9\n")


class BodyTests(SynchronousTestCase):
    def test_text_is_shown_as_it_is(self):
        self.assertEqual(body_text("été\n\tdeux".encode()), "été\n    deux")

    def test_json_is_indented(self):
        self.assertEqual(body_text('{"a": ["é"]}'.encode()), '{\n  "a": [\n    "é"\n  ]\n}')
        self.assertEqual(body_text(b'{"a": '), '{"a": ')
        self.assertEqual(body_text(b"[" * 100_000), "[" * 100_000)

    def test_json_does_not_control_the_terminal(self):
        shown = body_text(b'{"a": "\\u001b[31m \\u009b31m \\u202e \\ud800"}')
        self.assertTrue(all(line.isprintable() for line in shown.split("\n")), shown)

    def test_other_bytes_are_dumped(self):
        self.assertEqual(
            body_text(b"\x1b[31mred\xff"),
            "00000000  1b 5b 33 31 6d 72 65 64 ff                       |.[31mred.|",
        )
        self.assertIn("... 744 bytes more", body_text(bytes(1000)))

    def test_json_tells_text_from_bytes(self):
        self.assertEqual(data_fields("body", b"x"), {"body": "x"})
        self.assertEqual(data_fields("body", b"\xff"), {"body_base64": "/w=="})

    def test_a_long_text_is_escaped_whole(self):
        self.assertEqual(escaped("\x1b" * 3000), "\\x1b" * 3000)


class DurationTests(SynchronousTestCase):
    def test_a_duration_has_the_unit_that_fits(self):
        shown = [duration(each) for each in (None, 0, 0.25, 1.5, 90, 5400, 200_000)]
        self.assertEqual(shown, ["", "0.0 s", "250 ms", "1.5 s", "1.5 min", "1.5 h", "2.3 d"])
