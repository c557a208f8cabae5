from twisted.trial.unittest import SynchronousTestCase

from evserve.events import (
    BadEvent,
    Depth,
    Event,
    NotReserved,
    QueueError,
    QueueFull,
    QueueUnavailable,
    Unsupported,
)
from evserve.events.beanstalk import commands
from evserve.events.beanstalk.replies import Reply


class CommandTests(SynchronousTestCase):
    def test_put_counts_the_body_and_rounds_the_delay_up(self):
        wire = commands.put(b"a\r\n", priority=1, delay=0.2, ttr=9).wire
        self.assertEqual(wire, b"put 1 1 9 3\r\na\r\n\r\n")

    def test_settling_names_the_event(self):
        event = Event("7", "mail", b"", priority=3)
        self.assertEqual(commands.delete(event).wire, b"delete 7\r\n")
        self.assertEqual(commands.release(event, 1.5).wire, b"release 7 3 2\r\n")
        self.assertEqual(commands.bury(event).wire, b"bury 7 3\r\n")
        self.assertEqual(commands.touch(event).wire, b"touch 7\r\n")

    def test_refusals_say_what_they_mean_and_what_was_said(self):
        put = commands.put(b"", 0, 0, 1)
        for word, kind in (
            (b"OUT_OF_MEMORY", QueueFull),
            (b"DRAINING", QueueFull),
            (b"BURIED", QueueFull),
            (b"JOB_TOO_BIG", BadEvent),
            (b"INTERNAL_ERROR", QueueUnavailable),
            (b"BAD_FORMAT", QueueError),
        ):
            error = self.assertRaises(kind, put.outcome, Reply(word, (b"\xff",)))
            self.assertIn(word.decode() + " \\xff", str(error))

    def test_what_is_not_found_is_not_reserved(self):
        outcome = commands.delete(Event("7", "mail", b"")).outcome
        self.assertRaises(NotReserved, outcome, Reply(b"NOT_FOUND"))

    def test_an_old_server_does_not_know_the_extensions(self):
        for command in (commands.bind("a", "b"), commands.unbind("a", "b")):
            self.assertRaises(Unsupported, command.outcome, Reply(b"UNKNOWN_COMMAND"))

    def test_a_binding_that_is_not_there_is_as_good_as_ended(self):
        self.assertIsNone(commands.unbind("a", "b").outcome(Reply(b"NOT_FOUND")))

    def test_kick_says_how_many(self):
        self.assertEqual(commands.kick(5).outcome(Reply(b"KICKED", (b"2",))), 2)

    def test_no_event_in_time_is_none(self):
        outcome = commands.reserve(1).outcome
        self.assertIsNone(outcome(Reply(b"TIMED_OUT")))
        self.assertIsNone(outcome(Reply(b"DEADLINE_SOON")))

    def test_a_job_that_is_gone_is_none(self):
        taken = commands.Taken("7", b"")
        self.assertIsNone(commands.describe(taken).outcome(Reply(b"NOT_FOUND")))

    def test_statistics_may_quote_strings(self):
        """beanstalkd does so since 1.13."""
        for quote in ("", '"'):
            yaml = f"---\ncurrent-jobs-ready: 2\nname: {quote}a{quote}\n" + "".join(
                f"current-jobs-{state}: 0\n" for state in ("reserved", "delayed", "buried")
            )
            reply = Reply(b"OK", (), yaml.encode())
            self.assertEqual(commands.depth("a").outcome(reply), Depth(ready=2))
            tubes = Reply(b"OK", (), f"---\n- {quote}default{quote}\n- b\n".encode())
            self.assertEqual(commands.tubes().outcome(tubes), ["default", "b"])
