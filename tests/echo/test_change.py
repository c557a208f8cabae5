"""What the bytes become does not depend on how TCP cut them."""

from twisted.trial.unittest import SynchronousTestCase

from evserve.echo.protocol import Change


EVERY_BYTE = bytes(range(256))


def echoed(change, *chunks):
    stream = change.stream()
    return b"".join(map(stream.feed, chunks)) + stream.end()


class ChangeTests(SynchronousTestCase):
    def test_no_change_is_binary_safe(self):
        self.assertEqual(echoed(Change(), EVERY_BYTE), EVERY_BYTE)

    def test_only_a_change_that_does_nothing_is_none(self):
        self.assertTrue(Change().is_none)
        self.assertFalse(Change(upper=True).is_none)
        self.assertFalse(Change(suffix=b"!").is_none)

    def test_upper_changes_only_the_letters_a_to_z(self):
        changed = echoed(Change(upper=True), EVERY_BYTE)
        self.assertEqual(changed, EVERY_BYTE[:97] + EVERY_BYTE[65:91] + EVERY_BYTE[123:])

    def test_upper_leaves_utf8_whole(self):
        self.assertEqual(echoed(Change(upper=True), "größe".encode()), "GRößE".encode())

    def test_the_suffix_stands_before_each_line_break(self):
        self.assertEqual(echoed(Change(suffix=b"!"), b"one\ntwo\r\n\n"), b"one!\ntwo!\r\n!\n")

    def test_the_suffix_ends_a_last_line_that_has_no_end(self):
        self.assertEqual(echoed(Change(suffix=b"!"), b"one\ntwo"), b"one!\ntwo!")
        self.assertEqual(echoed(Change(suffix=b"!"), b"one\r"), b"one\r!")

    def test_an_empty_stream_gets_no_suffix(self):
        self.assertEqual(echoed(Change(suffix=b"!")), b"")

    def test_a_stream_ends_only_once(self):
        stream = Change(suffix=b"!").stream()
        stream.feed(b"one")
        self.assertEqual([stream.end(), stream.end()], [b"!", b""])

    def test_the_suffix_is_taken_literally_and_never_transformed(self):
        change = Change(upper=True, suffix=rb"\1 \g<0> ok")
        self.assertEqual(echoed(change, b"go\n"), rb"GO\1 \g<0> ok" + b"\n")

    def test_a_line_is_sent_back_before_it_ends(self):
        self.assertEqual(Change(suffix=b"!").stream().feed(b"hel"), b"hel")

    def test_the_result_is_the_same_wherever_the_stream_is_cut(self):
        change = Change(upper=True, suffix=b"\r\n+")
        text = b"a\r\nb\r\rc\n\r\n\nd\r\n\r"
        whole = echoed(change, text)
        for first in range(len(text) + 1):
            for second in range(first, len(text) + 1):
                chunks = text[:first], text[first:second], text[second:]
                self.assertEqual(echoed(change, *chunks), whole, chunks)

    def test_a_datagram_is_a_stream_of_its_own(self):
        self.assertEqual(Change(upper=True, suffix=b"!").whole(b"one\ntwo"), b"ONE!\nTWO!")
