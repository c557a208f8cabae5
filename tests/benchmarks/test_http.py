"""The benchmark's arithmetic."""

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.http.job import Job, Outcome, Run, peak_memory
from benchmarks.http.report import Row, table
from benchmarks.http.scenarios import Scenario


JOB = Job("http://x/1k", 100, 10)


def scenario(name, ideal=None):
    return Scenario(name, lambda peers: peers.plain, "1k", 100, 10, ideal=ideal)


def row(seconds, cpu=1, memory=1, failed=0):
    return Row.of(JOB, Outcome(seconds, cpu, memory * 2**20, failed))


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
    def test_the_middle_is_the_medians_and_the_worst_memory(self):
        rows = [row(s, s / 10, s, 1) for s in (1, 2, 9)]
        self.assertEqual(Row.middle(rows), Row(50.0, 2.0, 2, 9.0, 3))

    def test_the_goals_of_a_scenario_are_met_missed_or_not_measured(self):
        rows = {"evserve": [row(1)], "treq": [row(5)]}
        text = table(scenario("1 KiB"), JOB, rows)
        self.assertIn("rate of evserve >= 4.0 x treq: 5.00 met", text)
        self.assertIn("cpu of evserve <= 0.65 x aiohttp: not measured", text)
        self.assertNotIn("curl", text)

    def test_the_ideal_is_what_the_delay_allows(self):
        text = table(scenario("100 ms", ideal=200), JOB, {"evserve": [row(1), row(1)]})
        self.assertIn("x ideal: 0.50 MISSED", text)

    def test_failures_are_shown(self):
        rows = {"treq": [row(1.0, failed=7)]}
        self.assertIn("7 FAILED", table(scenario("some"), JOB, rows))
