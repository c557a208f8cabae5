"""The handlers' own tests: a handler is a function of an event, so no queue is needed.

Run them with `python -m twisted.trial test_wordcount`.
"""

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from evserve.events import Event
from wordcount import count_words


class CountTests(SynchronousTestCase):
    """The file that `count_words` writes."""

    def setUp(self) -> None:
        """Upload a text."""
        self.path = Path(self.mktemp()).with_suffix(".txt")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("one two\nthree\n", encoding="utf-8")
        self.event = Event("1", "text.uploaded", bytes(self.path))

    def test_number_is_written_beside_the_text(self) -> None:
        """Blanks and line ends separate words."""
        count_words(self.event)
        self.assertEqual(self.path.with_suffix(".count").read_text(encoding="utf-8"), "3\n")

    def test_event_may_come_twice(self) -> None:
        """Delivery is at least once."""
        count_words(self.event)
        self.test_number_is_written_beside_the_text()

    def test_missing_text_is_an_error(self) -> None:
        """The event is then retried, and finally buried."""
        self.path.unlink()
        self.assertRaises(FileNotFoundError, count_words, self.event)
