"""A run with made-up measurements: their order, progress, and what is kept of a partial run."""

from pathlib import Path

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from evserve.lab.claims import Experiment, ExperimentRunner, UnknownError
from evserve.lab.measurement import LoadProfile, ModelRunner
from evserve.lab.models import Model
from evserve.lab.process import NotStartedError, ProcessRegistry
from evserve.lab.results import Outcome, Verdict
from evserve.lab.run import Console, LabRun, Matrix, available_memory, measurement_line
from tests.lab.example_results import CLAIM, measurement
from tests.load.streams import Terminal


MODELS = [Model(name, "told", Path(f"{name}.py"), "") for name in ("a", "b")]


@define
class RecordingConsole:
    """A console that keeps what it is given."""

    progress: list = field(factory=list)
    printed: list = field(factory=list)

    def show_progress(self, what, done, total):
        self.progress.append((what, done, total))

    def print_measurement(self, model, measurement):
        self.printed.append((model.name, measurement.connections, measurement.outcome))

    def print_claim(self, claim):
        self.printed.append(claim.name)


class RunTests(SynchronousTestCase):
    def setUp(self):
        self.console = RecordingConsole()
        self.outcomes = {}

    def make(self, experiments=()):
        self.lab = LabRun(
            Clock(),
            MODELS,
            LoadProfile((1, 10)),
            self.console,
            command="x",
            experiments=experiments,
        )

        async def measured(runner, model, connections, profile, active=None):
            outcome = self.outcomes.get((model.name, connections), Outcome.MEASURED)
            if isinstance(outcome, Exception):
                raise outcome
            if callable(outcome):
                outcome = outcome()
            return measurement(connections, outcome, "because")

        self.patch(ModelRunner, "measure", measured)
        return self.lab

    def run_all(self, experiments=()):
        lab = self.make(experiments)
        self.successResultOf(Deferred.fromCoroutine(lab.run()))
        return lab.result()

    async def claim(self, experiment_runner):
        return CLAIM

    def test_everything_is_measured_and_printed(self):
        result = self.run_all([Experiment("threads", "claim", self.claim)])
        self.assertEqual((result.count(Outcome.MEASURED), result.partial), (4, None))
        self.assertEqual(result.claims, (CLAIM,))
        self.assertEqual(len(self.console.printed), 5)
        self.assertEqual(self.console.progress[0], ("a, 1 connection", 0, 5))
        self.assertEqual(self.console.progress[-1], ("claim: claim", 4, 5))

    def test_a_model_that_broke_is_skipped_from_then_on(self):
        self.outcomes["a", 1] = Outcome.BROKE
        result = self.run_all()
        self.assertEqual([each.outcome for each in result.models[0].cells], ["broke", "skipped"])
        self.assertEqual(result.count(Outcome.MEASURED), 2)

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
        self.assertEqual(self.console.printed, [("a", 1, Outcome.MEASURED)])

    def test_after_a_bug_no_program_runs_and_the_figures_are_kept(self):
        self.outcomes["b", 1] = ZeroDivisionError()
        lab = self.make()
        killed = []

        def kill(processes):
            killed.append(processes)

        self.patch(ProcessRegistry, "kill", kill)
        self.failureResultOf(Deferred.fromCoroutine(lab.run()), ZeroDivisionError)
        lab.mark_partial("the run failed")
        self.assertEqual(killed, [lab.runner.processes])
        self.assertEqual(lab.result().count(Outcome.MEASURED), 1)

    def test_a_claim_that_cannot_be_measured_says_why(self):
        for error in (UnknownError("no gevent"), NotStartedError("no gevent")):

            async def fail(experiment_runner, error=error):
                raise error

            result = self.run_all([Experiment("unpatched", "claim", fail)])
            (claim,) = result.claims
            self.assertEqual((claim.verdict, claim.evidence), (Verdict.UNKNOWN, "no gevent"))

    def test_a_missing_model_is_unknown(self):
        experiment_runner = ExperimentRunner(self.make().runner, {})
        self.assertRaises(UnknownError, experiment_runner.model, "epoll_level")


class ConsoleTests(SynchronousTestCase):
    def test_a_line_for_each_measurement(self):
        self.assertRegex(
            measurement_line("epoll_level", measurement(1_000)),
            r"epoll_level +1,000 +10k/s  p50 1 ms +p99 5 ms +CPU 50 µs$",
        )
        self.assertIn("(hot)", measurement_line("x", measurement(1, why="hot")))
        self.assertRegex(
            measurement_line("x", measurement(10, Outcome.BROKE, "no")), "^x +10  broke: no$"
        )

    def test_a_bar_on_a_terminal_makes_room_for_lines(self):
        out, err = Terminal(), Terminal()
        console = Console(out, err)
        console.show_progress("epoll_level", 1, 5)
        console.print_measurement(MODELS[0], measurement(1))
        console.print_claim(CLAIM)
        console.close()
        self.assertIn("epoll_level", err.getvalue())
        self.assertIn("\r\x1b[2K", err.getvalue())
        self.assertIn("holds: threads cost memory\n", out.getvalue())


A = Model("a", "told", Path("a.py"), "")
B = Model("b", "told", Path("b.py"), "")


class MatrixTests(SynchronousTestCase):
    def setUp(self):
        self.matrix = Matrix([A, B], LoadProfile((1, 100, 1_000)))

    def test_all_models_come_before_the_next_number(self):
        self.assertEqual(
            [(model.name, count) for model, count in self.matrix],
            [("a", 1), ("b", 1), ("a", 100), ("b", 100), ("a", 1_000), ("b", 1_000)],
        )
        self.assertEqual(len(self.matrix), 6)

    def test_the_first_is_always_measured(self):
        self.assertIsNone(self.matrix.skip(A, 1, 0))

    def test_a_broken_model_is_skipped(self):
        self.matrix.add(A, measurement(1, Outcome.BROKE, "of itself"))
        skipped = self.matrix.skip(A, 100, None)
        self.assertEqual(skipped.outcome, Outcome.SKIPPED)
        self.assertEqual(skipped.why, "it broke at 1 connection")
        self.matrix.add(A, skipped)
        self.assertEqual(self.matrix.skip(A, 1_000, None).why, skipped.why)
        self.assertIsNone(self.matrix.skip(B, 100, None))

    def test_an_unavailable_model_stays_unavailable(self):
        self.matrix.add(A, measurement(1, Outcome.UNAVAILABLE, "needs gevent"))
        found = self.matrix.skip(A, 100, None)
        self.assertEqual((found.outcome, found.why), (Outcome.UNAVAILABLE, "needs gevent"))

    def test_a_model_that_needs_too_much_memory_is_skipped(self):
        self.matrix.add(A, measurement(100, memory_bytes_per_connection=2e6))
        self.assertIsNone(self.matrix.skip(A, 1_000, 4_000_000_000))
        found = self.matrix.skip(A, 1_000, 2_000_000_000)
        self.assertEqual(found.outcome, Outcome.SKIPPED)
        self.assertIn("about 3 GB of memory, and 2 GB are left", found.why)

    def test_memory_at_few_connections_says_nothing_about_many(self):
        self.matrix.add(A, measurement(1, memory_bytes_per_connection=1e9))
        self.assertIsNone(self.matrix.skip(A, 1_000, 1_000))

    def test_what_was_not_reached_was_not_run(self):
        self.matrix.add(A, measurement(1))
        first, second = self.matrix.results()
        outcomes = [each.outcome for each in (*first.cells, *second.cells)]
        self.assertEqual(outcomes, [Outcome.MEASURED, *[Outcome.NOT_RUN] * 5])

    def test_available_memory(self):
        path = Path(self.mktemp())
        self.assertIsNone(available_memory(path))
        path.write_text("MemTotal: 9 kB\nMemAvailable:    5 kB\n")
        self.assertEqual(available_memory(path), 5 * 1024)
