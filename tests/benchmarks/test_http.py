"""The benchmark's arithmetic."""

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.http.job import Job, Outcome, Run, peak_memory
from benchmarks.http.report import Row, table
from benchmarks.http.scenarios import Goal, Scenario


JOB = Job("http://x/1k", 100, 10)


def scenario(*goals, ideal=None):
    return Scenario("some", lambda peers: peers.plain, "1k", 100, 10, goals, ideal=ideal)


def row(seconds, cpu):
    return Row.of(JOB, [Outcome(seconds, cpu, 2**20, 0)])


class JobTests(SynchronousTestCase):
    def test_jobs_and_outcomes_survive_the_pipe(self):
        outcome = Outcome(1.0, 0.5, 1, 0)
        self.assertEqual(Job.from_json(JOB.to_json()), JOB)
        self.assertEqual(Outcome.from_json(outcome.to_json()), outcome)

    def test_a_run_gives_so_many_urls_all_different(self):
        run = Run(Job("http://x/1k", 3, 1))
        run.begin()
        urls = [run.next_url() for _ in range(5)]
        self.assertEqual(len(set(urls[:3])), 3)
        self.assertEqual(urls[3:], [None, None])
        self.assertGreater(run.outcome().memory, 2**20)
        self.assertGreater(peak_memory(), 2**20)


class ReportTests(SynchronousTestCase):
    def test_a_row_is_the_medians_and_the_worst_memory(self):
        outcomes = [Outcome(s, s / 10, s * 2**20, 1) for s in (1, 2, 9)]
        self.assertEqual(Row.of(JOB, outcomes), Row(50.0, 2.0, 2, 9.0, 3))

    def test_goals_are_met_missed_or_not_measured(self):
        goals = (
            Goal("rate", "treq", at_least=4.0),
            Goal("cpu", "treq", at_most=0.1),
            Goal("rate", "ideal", at_least=0.7),
            Goal("rate", "curl", at_least=1.0),
        )
        rows = {"evserve": row(1, 1), "treq": row(5, 5)}
        text = table(scenario(*goals, ideal=200), JOB, rows)
        self.assertIn("rate >= 4.0 x treq: 5.00 met", text)
        self.assertIn("cpu <= 0.1 x treq: 0.20 MISSED", text)
        self.assertIn("rate >= 0.7 x ideal: 0.50 MISSED", text)
        self.assertIn("against curl: not measured", text)

    def test_failures_are_shown(self):
        rows = {"treq": Row.of(JOB, [Outcome(1.0, 1.0, 2**20, 7)])}
        self.assertIn("7 FAILED", table(scenario(), JOB, rows))
