"""The queue benchmarks' clocks, arithmetic and scenarios."""

from importlib.util import find_spec

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from benchmarks.queue import beanstalkd
from benchmarks.queue.job import Job, Outcome, Tally, quantiles, sent_at
from benchmarks.queue.measure import Result, middle
from benchmarks.queue.postgres import GOALS, SCENARIOS
from benchmarks.queue.report import table
from benchmarks.queue.scaling import Measurements, Point
from benchmarks.queue.simulation import FITTED, Costs, Model, Simulation, fit
from benchmarks.queue.systems import SYSTEMS


JOB = Job("postgresql://x", "put", 50)


def result(rate, cpu=10.0):
    return Result(rate, 100.0, 200.0, cpu, cpu)


def tally(begin, end, *times):
    """Return a tally of operations that took a second each and ended at `times`."""
    made = Tally(begin, end, last=times[-1])
    made.latencies.extend([1.0] * len(times))
    return made


class JobTests(SynchronousTestCase):
    def test_jobs_and_outcomes_survive_the_pipe(self):
        outcome = Outcome(3, 1.0, 0.5, [0.1, 0.2])
        self.assertEqual(Job.from_json(JOB.to_json()), JOB)
        self.assertEqual(Outcome.from_json(outcome.to_json()), outcome)

    def test_a_body_has_its_size_and_tells_when_it_was_made(self):
        for size in (100, 256, 100 * 1024):
            body = evolve(JOB, size=size).body()
            self.assertEqual(len(body), size)
            self.assertTrue(0 <= Tally().done(sent_at(body)) - sent_at(body) < 60)

    def test_a_lone_client_has_one_event_on_its_way_and_many_have_some_each(self):
        self.assertEqual(evolve(JOB, clients=1).window, 1)
        self.assertGreater(JOB.window, JOB.clients)


class TallyTests(SynchronousTestCase):
    def test_nothing_counts_before_the_clocks_run(self):
        made = Tally(0.0, 1.0)
        made.done(0.0)
        self.assertEqual(made.outcome(0.0).count, 0)

    def test_the_time_is_that_between_the_clocks(self):
        self.assertEqual(tally(10.0, 12.0, 11.0, 11.9).outcome(0.5).seconds, 2.0)

    def test_the_time_ends_with_the_last_event_where_they_ran_out(self):
        self.assertEqual(tally(10.0, 12.0, 10.5, 11.0).outcome(0.5).seconds, 1.0)

    def test_quantiles_keep_the_ends_and_the_middle(self):
        found = quantiles(range(100_000), 101)
        self.assertEqual((found[0], found[50], found[100]), (0, 50_000, 99_999))
        self.assertEqual(quantiles([3, 1, 2], 101), [1, 2, 3])


class ResultTests(SynchronousTestCase):
    def test_processes_add_up(self):
        outcomes = [Outcome(100, 2.0, 0.1, [0.001] * 9), Outcome(300, 2.0, 0.3, [0.003] * 11)]
        found = Result.of(outcomes, 0.8)
        self.assertEqual(found.rate, 200)
        self.assertEqual((found.p50, found.p99), (3000, 3000))
        self.assertAlmostEqual(found.client_cpu, 1000)
        self.assertAlmostEqual(found.store_cpu, 2000)
        self.assertAlmostEqual(found.cpu, 3000)

    def test_a_measurement_of_nothing_is_an_error(self):
        self.assertRaises(SystemExit, Result.of, [Outcome(0, 2.0, 0.1, [])], 0.1)

    def test_the_middle_is_the_median_of_each_figure(self):
        found = middle([result(1, 30), result(9, 10), result(2, 20)])
        self.assertEqual((found.rate, found.client_cpu), (2, 20))


class ReportTests(SynchronousTestCase):
    def test_a_table_shows_multiples_of_evserve(self):
        shown = table("some", {"evserve": [result(40)], "plain": [result(10, 25)]})
        self.assertRegex(shown, r"plain +10 +0\.25 .* 50 +2\.50")
        self.assertNotIn("x plain", table("some", {"plain": [result(10)]}))


class ScenarioTests(SynchronousTestCase):
    def test_names_are_unique_and_goals_name_scenarios_in_which_both_systems_are_measured(self):
        scenarios = {each.name: each for each in SCENARIOS}
        self.assertEqual(len(scenarios), len(SCENARIOS))
        for goal in GOALS:
            self.assertLessEqual({goal.own, goal.other}, set(scenarios[goal.scenario].systems))

    def test_redis_is_left_out_where_a_standby_is_asked_for(self):
        for scenario in SCENARIOS:
            stores = {SYSTEMS[name].store for name in scenario.systems}
            self.assertEqual(scenario.standby or scenario.batch > 1, stores == {"postgres"})

    def test_every_system_has_a_module(self):
        for system in SYSTEMS.values():
            self.assertIsNotNone(find_spec(f"benchmarks.queue.{system.module}"))


MODEL = Model(
    Costs(20, 40, 100, 60, 1, 1), Costs(10, 30, 50, 40, 2, 2), sync=200, wake=30, cores=2
)


class SimulationTests(SynchronousTestCase):
    def test_a_lone_producer_waits_for_each_step_of_its_batch(self):
        found = Simulation(MODEL, Point("put", 1)).run()
        # 120 and 60 us of CPU, the sync and the wake; a body of 256 bytes has a quarter KiB.
        self.assertAlmostEqual(found.batch_time, 120 + 60 + 200 + 30 + 3 / 4)
        self.assertApproximates(found.rate, 1e6 / found.batch_time, 2)
        self.assertEqual(found.group, 1)

    def test_producers_of_a_process_share_its_batches(self):
        found = Simulation(MODEL, Point("put", 50)).run()
        self.assertEqual(found.group, 50)
        self.assertAlmostEqual(found.client_cpu, 20 + 100 / 50 + 1 / 4)

    def test_processes_share_the_cores(self):
        for cores, limit in ((2, 2), (64, 4)):
            model = evolve(MODEL, cores=cores)
            one = Simulation(model, Point("put", 200)).run()
            four = Simulation(model, Point("put", 200, processes=4)).run()
            self.assertLessEqual(four.rate / one.rate, limit * 1.05)
        self.assertGreater(four.rate / one.rate, 3)

    def test_commits_of_processes_share_a_slow_sync(self):
        model = evolve(MODEL, sync=10_000, cores=64)
        found = Simulation(model, Point("put", 50, processes=4)).run()
        self.assertGreater(found.rate, 190 * 50)  # one by one: 100 batches/s for all

    def test_what_is_put_is_taken_once(self):
        simulation = Simulation(MODEL, Point("cycle", 10, processes=2, backlog=500))
        simulation.run()
        under_way = sum(each.acks for each in simulation._processes)
        self.assertTrue(500 - 20 <= simulation.ready + under_way <= 500 + 2 * 40)

    def test_the_costs_are_found_again_in_the_loads_that_they_make(self):
        model = evolve(MODEL, cores=64)
        results = {}
        for point in FITTED:
            each = Simulation(model, point).run()
            cpu = (each.client_cpu, each.server_cpu)
            results[point] = Result(each.rate, each.batch_time, 0.0, *cpu, sync=200)
        found = fit(Measurements(64, results))
        for costs, made in ((found.client, MODEL.client), (found.server, MODEL.server)):
            self.assertApproximates(costs.put, made.put, 0.5)
            self.assertApproximates(costs.take, made.take, 2)
            self.assertApproximates(costs.put_batch, made.put_batch, 1)
            self.assertApproximates(costs.take_batch, made.take_batch, 1)
            self.assertApproximates(costs.put_kib, made.put_kib, 0.1)
        self.assertApproximates(found.wake, 30, 2)


class MeasurementsTests(SynchronousTestCase):
    def test_they_survive_the_file(self):
        found = Measurements(2, {Point("put", 1): result(10), Point("cycle"): result(9)})
        self.assertEqual(Measurements.from_json(found.to_json()), found)


class BeanstalkdTests(SynchronousTestCase):
    def test_each_goal_is_about_servers_that_its_scenario_measures(self):
        servers = {
            each.title: {kind.name for kind in each.servers} for each in beanstalkd.SCENARIOS
        }
        for goal in beanstalkd.GOALS:
            self.assertLessEqual({goal.own, goal.other}, servers[goal.scenario])

    def test_a_table_has_the_ratios_to_the_first_server(self):
        results = {
            "beanstalkd": [beanstalkd.Result(100.0, 1.0, 2.0, 5.0)],
            "evserve": [beanstalkd.Result(50.0, 1.0, 2.0, 10.0)],
        }
        rows = [row.split() for row in beanstalkd.table("put", results).splitlines()]
        self.assertEqual(rows[2], ["beanstalkd", "100", "1", "2", "5.0", "1.00", "1.00"])
        self.assertEqual(rows[3], ["evserve", "50", "1", "2", "10.0", "0.50", "2.00"])
