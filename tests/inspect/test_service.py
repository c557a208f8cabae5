"""The job: from options to what is shown and an exit status."""

import io
import sys
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from evserve.events import Depth
from evserve.inspect import service
from evserve.inspect.options import Options
from evserve.testing import MemoryHost, MemoryQueue
from tests.load.streams import FullDisk, Terminal


class Input(io.TextIOWrapper):
    """Standard input."""

    def __init__(self, data, *, terminal=False):
        super().__init__(io.BytesIO(data))
        self.isatty = lambda: terminal


class ServiceTests(SynchronousTestCase):
    def setUp(self):
        self.out, self.err = io.StringIO(), io.StringIO()
        self.host = MemoryHost()
        self.queues = {name: MemoryQueue(self.host.reactor) for name in ("q:", "r:")}
        self.patch(service, "open_queue", lambda url, _: self.queues[url])
        self.queue = self.queues["q:"]

    def start(self, *words, stdin=None):
        self.patch(sys, "stdout", self.out)
        self.patch(sys, "stderr", self.err)
        self.patch(sys, "stdin", stdin)
        options = Options()
        options.parseOptions(words if "move" in words else ["--queue=q:", *words])
        job = service.makeService(options, self.host)
        job.startService()
        for function, *_ in self.host.reactor.whenRunningHooks:
            function()
        return job

    def outcome(self):
        return self.host.statuses, self.host.failures

    def test_a_verb_is_run_and_the_queue_is_closed(self):
        self.queue.put("mail", b"")
        self.start("kick", "mail")
        self.assertEqual(self.outcome(), ([0], []))
        self.assertEqual(self.out.getvalue(), "mail: no event is buried or delayed\n")
        self.assertIn("closed", str(self.failureResultOf(self.queue.types()).value))

    def test_a_failure_is_one_line(self):
        self.start("peek", "mail")
        self.assertEqual(self.outcome(), ([], ["there are no events of the type 'mail'"]))

    def test_an_error_of_the_queue_is_one_line(self):
        self.queue.go_away()
        self.start("list")
        self.assertEqual(self.outcome(), ([], ["the connection was lost"]))

    def test_standard_output_that_cannot_be_written_is_one_line(self):
        self.out = FullDisk()
        self.start("list")
        self.assertEqual(self.outcome(), ([], ["standard output: No space left on device"]))

    def test_a_body_is_read_from_standard_input(self):
        self.start("put", "mail", "-", stdin=Input(b"\xff\n"))
        self.assertEqual(self.outcome(), ([0], []))

    def test_stopping_ends_the_verb(self):
        self.patch(MemoryQueue, "types", lambda _: Deferred())
        job = self.start("list")
        self.successResultOf(job.stopService())
        self.assertEqual(self.outcome(), ([], ["interrupted"]))

    def test_emptying_a_type_is_confirmed(self):
        self.queue.put("mail", b"")
        self.err = Terminal()
        words = ("--type=mail", "delete")
        with self.assertRaises(UsageError):
            self.start(*words, stdin=Input(b"\n", terminal=True))
        self.assertEqual(self.successResultOf(self.queue.depth("mail")), Depth(ready=1))
        self.start(*words, stdin=Input(b"y\n", terminal=True))
        self.assertEqual(self.out.getvalue(), "mail: 1 event deleted\n")
        self.assertIn(
            "delete all events of mail that are not reserved? [y/N]", self.err.getvalue()
        )

    def test_emptying_a_type_without_a_terminal_needs_yes(self):
        for stdin in (None, Input(b"y\n")):
            error = self.assertRaises(UsageError, self.start, "--type=a", "delete", stdin=stdin)
            self.assertIn("add --yes", str(error))

    def test_a_move_is_summed_up(self):
        self.queue.put("mail", b"")
        self.queue.put("mail", b"", delay=5)
        self.start("--from=q:", "--to=r:", "move")
        self.assertEqual(self.outcome(), ([0], []))
        self.assertEqual(
            self.out.getvalue(),
            "type  moved  delayed  buried\nmail      2        1       0\nmoved 2 events\n",
        )

    def test_a_move_that_fails_is_summed_up_as_json_too(self):
        self.queue.put("mail", b"")
        self.queue.put("sms", b"")
        self.queues["r:"].bind("sms", "fax")
        self.start("--from=q:", "--to=r:", "--json", "move")
        self.assertEqual(self.out.getvalue(), "")
        self.assertEqual(len(self.outcome()[1]), 1)

    def test_a_move_draws_a_bar_on_a_terminal(self):
        self.err = Terminal()
        self.queue.put("mail", b"")
        self.start("--from=q:", "--to=r:", "move")
        self.assertIn("1/1", self.err.getvalue())

    def test_stopping_a_move_says_how_to_go_on(self):
        self.queue.put("mail", b"")
        self.queue.reserve(["mail"])
        job = self.start("--from=q:", "--to=r:", "move")
        self.successResultOf(job.stopService())
        self.assertEqual(self.outcome(), ([], ["stopped (start it again to go on)"]))


class OpenTests(SynchronousTestCase):
    def problem(self, *words):
        options = Options()
        options.parseOptions(words)
        return str(self.assertRaises(UsageError, service.makeService, options, MemoryHost()))

    def test_a_queue_that_is_not_there_is_one_line(self):
        path = Path(self.mktemp())
        self.assertEqual(self.problem(f"--queue=sqlite:{path}"), f"{path}: there is no such queue")
        self.assertFalse(path.exists())
        self.problem(f"--from=sqlite:{path}", "--to=memory:", "move")

    def test_a_queue_that_no_other_process_sees_is_refused(self):
        self.assertIn("only in its own process", self.problem("--queue=memory:"))

    def test_a_url_that_is_none_is_one_line(self):
        self.assertIn("not a queue URL", self.problem("--queue=nonsense"))
