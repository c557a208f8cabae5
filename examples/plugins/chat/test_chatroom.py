"""The plugin's own tests: no socket, no server; `python -m twisted.trial test_chatroom`."""

from twisted.trial.unittest import SynchronousTestCase

from chatroom.service import Options, makeService
from evserve.testing import MemoryHost


class ChatTests(SynchronousTestCase):
    """What guests of one room see of each other."""

    def setUp(self) -> None:
        """Open a room with two guests."""
        self.host = MemoryHost()
        options = Options()
        options.parseOptions(["--greeting", "Hello {name}"])
        self.service = makeService(options, self.host)
        self.service.startService()
        self.anna, self.ben = self.host.connect(), self.host.connect()

    def test_newcomer_is_greeted_and_announced(self) -> None:
        """The greeting goes to the newcomer, the news to the others."""
        self.assertEqual(self.anna.received, b"Hello guest1\n* guest2 is here\n")
        self.assertEqual(self.ben.received, b"Hello guest2\n")

    def test_others_hear_what_is_said(self) -> None:
        """A line goes to everyone but its speaker, and is counted."""
        self.anna.send(b"good mor")
        self.anna.send(b"ning\r\n")
        self.assertTrue(self.ben.received.endswith(b"guest1: good morning\n"))
        self.assertNotIn(b"good morning", self.anna.received)
        self.assertEqual(self.host.metric("chat_lines_total"), 1)

    def test_name_can_be_chosen(self) -> None:
        """`/name` renames the guest for everyone."""
        self.ben.send(b"/name Ben\nhi\n")
        self.assertTrue(self.anna.received.endswith(b"* guest2 is now Ben\nBen: hi\n"))

    def test_leaving_is_announced(self) -> None:
        """A client that disconnects leaves the room."""
        self.ben.disconnect()
        self.assertTrue(self.anna.received.endswith(b"* guest2 has left\n"))

    def test_stopping_says_why(self) -> None:
        """A drain tells every guest before it closes."""
        self.service.stopService()
        self.assertTrue(self.anna.received.endswith(b"* the room closes\n"))
        self.assertFalse(self.anna.connected or self.ben.connected)
