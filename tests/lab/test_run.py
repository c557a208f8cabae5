"""A run whose measurements are made up: progress, what is cut short, and what is kept."""

from pathlib import Path

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from evserve.lab.claims import Experiment, Laboratory, UnknownError
from evserve.lab.measurement import Bench
from evserve.lab.models import Model
from evserve.lab.process import Children, NotStartedError
from evserve.lab.results import Outcome, Verdict
from evserve.lab.run import LabRun
from evserve.lab.screen import Screen, cell_line
from evserve.lab.settings import Measure
from tests.lab.example_results import CLAIM, cell


MODELS = [Model(name, "told", Path(f"{name}.py"), "") for name in ("a", "b")]


@define
class Notes:
    """A watcher that remembers."""

    begun: list = field(factory=list)
    known: list = field(factory=list)

    def begin(self, what, done, total):
        self.begun.append((what, done, total))

    def cell(self, model, cell):
        self.known.append((model.name, cell.connections, cell.outcome))

    def claim(self, claim):
        self.known.append(claim.name)


class RunTests(SynchronousTestCase):
    def setUp(self):
        self.notes = Notes()
        self.outcomes = {}

    def make(self, experiments=()):
        self.lab = LabRun(
            Clock(), MODELS, Measure((1, 10)), self.notes, command="x", experiments=experiments
        )

        async def measured(bench, model, connections, measure, active=None):
            outcome = self.outcomes.get((model.name, connections), Outcome.MEASURED)
            if isinstance(outcome, Exception):
                raise outcome
            if callable(outcome):
                outcome = outcome()
            return cell(connections, outcome, "because")

        self.patch(Bench, "cell", measured)
        return self.lab

    def run_all(self, experiments=()):
        lab = self.make(experiments)
        self.successResultOf(Deferred.fromCoroutine(lab.run()))
        return lab.result()

    async def claim(self, laboratory):
        return CLAIM

    def test_everything_is_measured_and_told(self):
        result = self.run_all([Experiment("threads", "claim", self.claim)])
        self.assertEqual((result.measured, result.partial), (4, None))
        self.assertEqual(result.claims, (CLAIM,))
        self.assertEqual(len(self.notes.known), 5)
        self.assertEqual(self.notes.begun[0], ("a, 1 connection", 0, 5))
        self.assertEqual(self.notes.begun[-1], ("claim: claim", 4, 5))

    def test_whoever_broke_is_skipped_from_then_on(self):
        self.outcomes["a", 1] = Outcome.BROKE
        result = self.run_all()
        self.assertEqual([each.outcome for each in result.models[0].cells], ["broke", "skipped"])
        self.assertEqual(result.measured, 2)

    def test_a_run_that_is_stopped_has_what_was_measured(self):
        def stop():
            self.lab.stop("it was stopped")
            return Outcome.NOT_RUN

        self.outcomes["b", 1] = stop
        result = self.run_all([Experiment("threads", "claim", self.claim)])
        outcomes = [each.outcome for model in result.models for each in model.cells]
        self.assertEqual(outcomes, ["measured", "not run", "not run", "not run"])
        self.assertEqual(result.partial, "it was stopped")
        self.assertEqual(result.claims[0].verdict, Verdict.UNKNOWN)
        self.assertEqual(self.notes.known, [("a", 1, Outcome.MEASURED)])

    def test_after_a_defect_no_program_is_left_and_the_figures_are(self):
        self.outcomes["b", 1] = ZeroDivisionError()
        lab = self.make()
        killed = []

        def kill(children):
            killed.append(children)

        self.patch(Children, "kill", kill)
        self.failureResultOf(Deferred.fromCoroutine(lab.run()), ZeroDivisionError)
        lab.cut("the run broke off")
        self.assertEqual((killed, lab.result().measured), ([lab.bench.children], 1))

    def test_a_claim_that_cannot_be_measured_says_why(self):
        for error in (UnknownError("no gevent"), NotStartedError("no gevent")):

            async def fail(laboratory, error=error):
                raise error

            result = self.run_all([Experiment("unpatched", "claim", fail)])
            (claim,) = result.claims
            self.assertEqual((claim.verdict, claim.evidence), (Verdict.UNKNOWN, "no gevent"))

    def test_a_model_that_is_not_there_is_no_figure(self):
        laboratory = Laboratory(self.make().bench, {})
        self.assertRaises(UnknownError, laboratory.model, "epoll_level")


class ScreenTests(SynchronousTestCase):
    def test_a_line_for_each_cell(self):
        self.assertRegex(
            cell_line("epoll_level", cell(1_000)),
            r"epoll_level +1,000 +10k/s  p50 1 ms +p99 5 ms +CPU 50 µs$",
        )
        self.assertIn("(hot)", cell_line("x", cell(1, why="hot")))
        self.assertRegex(cell_line("x", cell(10, Outcome.BROKE, "no")), "^x +10  broke: no$")

    def test_a_bar_on_a_terminal_makes_room_for_lines(self):
        from tests.load.test_service import Terminal

        out, err = Terminal(), Terminal()
        screen = Screen(out, err)
        screen.begin("epoll_level", 1, 5)
        screen.cell(MODELS[0], cell(1))
        screen.claim(CLAIM)
        screen.stop()
        self.assertIn("epoll_level", err.getvalue())
        self.assertIn("\r\x1b[2K", err.getvalue())
        self.assertIn("holds: threads cost memory\n", out.getvalue())
