"""What is sent, and which answers are right."""

from twisted.trial.unittest import SynchronousTestCase

from evserve.load.conversations import (
    EchoConversation,
    LineConversation,
    MismatchError,
    Stream,
    conversation_factory,
    make_line,
)
from evserve.load.plan import Plan


class EchoTests(SynchronousTestCase):
    def setUp(self):
        self.stream = Stream.of(10)
        self.conversation = EchoConversation(self.stream, 3)

    def refuses(self, data, pattern):
        error = self.assertRaises(MismatchError, self.conversation.feed, data)
        self.assertRegex(str(error), pattern)

    def test_an_answer_counts_when_its_last_byte_is_there(self):
        data = self.conversation.messages(2)
        self.assertEqual(len(data), 20)
        self.assertEqual([self.conversation.feed(data[n : n + 1]) for n in range(20)].index(1), 9)

    def test_answers_that_come_together_count_together(self):
        self.assertEqual(self.conversation.feed(self.conversation.messages(50)), 50)

    def test_each_message_differs_from_its_neighbours(self):
        self.assertEqual(len({self.conversation.messages(1) for _ in range(100)}), 100)

    def test_each_connection_sends_something_else(self):
        other = EchoConversation(self.stream, 4)
        self.assertNotEqual(self.conversation.messages(1), other.messages(1))

    def test_a_wrong_byte_is_named(self):
        data = bytearray(self.conversation.messages(2))
        right, data[13] = data[13], data[13] ^ 0xFF
        self.conversation.feed(bytes(data[:5]))
        self.refuses(bytes(data[5:]), f"byte 13 is 0x{right ^ 0xFF:02x} instead of 0x{right:02x}")

    def test_messages_in_the_wrong_order_are_wrong(self):
        first, second = self.conversation.messages(1), self.conversation.messages(1)
        self.refuses(second + first, "byte 0 is")

    def test_more_than_was_sent_is_wrong(self):
        self.refuses(self.conversation.messages(1) + b"abc", "3 bytes more than were sent")

    def test_an_answer_to_nothing_is_wrong(self):
        self.refuses(b"220 hello", "9 bytes more than were sent")

    def test_the_stream_has_no_end(self):
        for _ in range(700):
            self.assertEqual(self.conversation.feed(self.conversation.messages(10)), 10)
        data = self.conversation.messages(5000)
        self.assertEqual(len(data), 50_000)
        self.assertEqual(self.conversation.feed(data), 5000)

    def test_the_stream_repeats_without_a_seam(self):
        period = self.stream._period
        whole = self.stream.at(0, period * 3)
        self.assertEqual(self.stream.at(period - 5, 20), whole[period - 5 : period + 15])
        self.assertEqual(whole[:period], whole[period : 2 * period])

    def test_large_messages_share_few_bytes(self):
        stream = Stream.of(2**22)
        self.assertEqual(len(stream.text), 2**24)


class LineTests(SynchronousTestCase):
    def refuses(self, conversation, data, pattern):
        self.assertRegex(str(self.assertRaises(MismatchError, conversation.feed, data)), pattern)

    def test_any_line_is_an_answer(self):
        conversation = LineConversation(b"ping")
        self.assertEqual(conversation.messages(2), b"ping\r\nping\r\n")
        self.assertEqual(
            [conversation.feed(b"wh"), conversation.feed(b"at\nev"), conversation.feed(b"er\r\n")],
            [0, 1, 1],
        )

    def test_an_extra_line_is_wrong(self):
        conversation = LineConversation(b"ping")
        self.refuses(conversation, b"welcome", "more lines than were sent: b'welcome'")
        conversation.messages(1)
        self.refuses(conversation, b"one\ntwo\n", "more lines than were sent")
        self.refuses(conversation, b"one\ntw", "more lines than were sent")

    def test_every_line_must_be_the_expected_one(self):
        conversation = LineConversation(b"ping", b"+PONG")
        conversation.messages(4)
        self.assertEqual(conversation.feed(b"+PONG\r\n+PO"), 1)
        self.assertEqual(conversation.feed(b"NG\n+PONG\r"), 1)
        self.refuses(conversation, b"\n-PANG\r\n", "b'-PANG.*instead of b'.PONG'")

    def test_a_wrong_line_is_noticed_before_its_end(self):
        conversation = LineConversation(b"ping", b"+PONG")
        conversation.messages(1)
        self.refuses(conversation, b"+PX", "b'.PX' instead of")

    def test_a_line_has_the_size_asked_for(self):
        for size in (3, 28, 29, 1000):
            self.assertEqual(len(LineConversation(make_line(size)).messages(1)), size)


class PlanTests(SynchronousTestCase):
    def test_the_plan_says_which_conversation(self):
        self.assertIsInstance(conversation_factory(Plan("tcp:1"))(1), EchoConversation)
        lines = conversation_factory(Plan("tcp:1", line=b"x", expected=b"y"))(1)
        lines.messages(1)
        self.assertEqual(lines.feed(b"y\n"), 1)
