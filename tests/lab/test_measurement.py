"""From a load report to the measurement of a model."""

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from evserve.lab.measurement import LoadProfile, evaluate
from evserve.lab.results import Outcome
from evserve.load.plan import Plan
from evserve.load.report import ConnectionCounts, Report, ServerUsage
from evserve.load.stats import Histogram


def latencies():
    histogram = Histogram()
    for _ in range(100):
        histogram.record(0.001)
    return histogram.summary()


REPORT = Report(
    plan=Plan("tcp:127.0.0.1:1", 10, idle=90),
    connections=ConnectionCounts(100, 0.25, {}, {}),
    seconds=2.0,
    answered=100,
    unanswered=0,
    wrong=0,
    first_wrong=None,
    latencies=latencies(),
    lags=None,
    busy=0.5,
    saturated=None,
    server=ServerUsage(0.5, 0.005, 1_000, 9_000, 80.0, 1, 500, 2_500, 20.0),
    interrupted=False,
)


class EvaluateTests(SynchronousTestCase):
    def why(self, ended=None, said=None, **changes):
        """Return why a model broke."""
        found = evaluate(evolve(REPORT, **changes), ended, said)
        self.assertEqual((found.outcome, found.figures), (Outcome.BROKE, None))
        return found.why

    def test_a_good_run_has_figures(self):
        found = evaluate(REPORT)
        self.assertEqual((found.outcome, found.why), (Outcome.MEASURED, None))
        self.assertEqual((found.connections, found.active), (100, 10))
        figures = found.figures
        self.assertEqual(figures.messages_per_second, 50)
        self.assertEqual(figures.cpu_seconds_per_message, 0.005)
        self.assertEqual(figures.memory_bytes_per_connection, 20)
        self.assertEqual(figures.connect_seconds, 0.25)

    def test_resident_memory_is_used_without_pss(self):
        server = evolve(REPORT.server, pss=None, pss_before=None, pss_per_connection=None)
        figures = evaluate(evolve(REPORT, server=server)).figures
        self.assertEqual((figures.memory_bytes, figures.memory_bytes_per_connection), (9_000, 80))

    def test_output_of_a_model_that_serves_is_a_note(self):
        found = evaluate(REPORT, said="getting warm")
        self.assertEqual((found.outcome, found.why), (Outcome.MEASURED, "getting warm"))

    def test_a_model_that_ended(self):
        self.assertEqual(self.why("it ended with status 1", unready="x"), "it ended with status 1")
        self.assertEqual(self.why("MemoryError", "MemoryError"), "MemoryError")

    def test_connections_that_are_never_answered(self):
        unready = "9 of 100 connections were never answered"
        self.assertEqual(self.why(unready=unready), unready)
        why = self.why(said="descriptor 1024 is too large", unready=unready)
        self.assertEqual(why, f"descriptor 1024 is too large ({unready})")

    def test_wrong_answers(self):
        why = self.why(wrong=3, first_wrong="b'x' instead of b'X'")
        self.assertEqual(why, "wrong answers on 3 connections: b'x' instead of b'X'")
        late = "ConnectionResetError"
        self.assertEqual(self.why(said=late, wrong=3, first_wrong="b'x' instead of b'X'"), why)

    def test_lost_connections(self):
        connections = ConnectionCounts(100, 0.1, {}, {"reset": 3, "closed by the server": 1})
        self.assertEqual(self.why(connections=connections), "4 connections were lost: reset")

    def test_connections_left_unanswered(self):
        why = self.why(unanswered=4)
        self.assertEqual(why, "4 of 10 active connections were left unanswered")

    def test_silence(self):
        self.assertEqual(self.why(answered=0), "nothing was answered")

    def test_what_other_programs_disturbed_is_not_measured(self):
        found = evaluate(evolve(REPORT, lost_share=0.4))
        self.assertEqual((found.outcome, found.figures), (Outcome.DISTURBED, None))
        self.assertEqual(found.why, "other programs used the CPU for 40% of the time")
        self.assertEqual(evaluate(evolve(REPORT, lost_share=0.1)).outcome, Outcome.MEASURED)

    def test_a_busy_machine_may_be_why_it_was_late_but_not_why_it_was_wrong(self):
        late = {
            "unready": "9 of 100 connections had not been answered after 12 s",
            "is_late": True,
        }
        self.assertIn("after 12 s, the lab's limit", self.why(**late))
        found = evaluate(evolve(REPORT, lost_share=0.4, **late))
        self.assertEqual(found.outcome, Outcome.DISTURBED)
        self.why(lost_share=0.4, wrong=1, first_wrong="b'x'")
        self.why(lost_share=0.4, unready="9 of 100 connections were never answered")
        self.why("MemoryError", lost_share=0.4, **late)

    def test_a_full_listen_queue_is_named(self):
        why = self.why(unready="9 of 100 connections were never answered", listen_overflows=7)
        self.assertIn("never answered; meanwhile a listen queue was full 7 times", why)
        connections = ConnectionCounts(100, 0.1, {}, {"reset": 3})
        self.assertIn("7 times", self.why(connections=connections, listen_overflows=7))

    def test_figures_that_cannot_be_read(self):
        self.assertEqual(self.why(server=None), "its figures could not be read")


class LoadProfileTests(SynchronousTestCase):
    def test_ten_at_most_are_active(self):
        plan = LoadProfile().plan(9000, 5, 1_000, LoadProfile().active(1_000))
        self.assertEqual((plan.connections, plan.idle), (10, 990))
        self.assertEqual(plan.expected, plan.line.upper())
        self.assertEqual(LoadProfile().active(3), 3)
