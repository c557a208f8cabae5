"""The metrics of the workers, summed."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from twisted.trial.unittest import SynchronousTestCase

from evserve.host.metrics import Metrics, ProcessMetrics
from evserve.host.workers.totals import ProcessTotals, ServiceTotals, Totals


def snapshot(hits=0, connections=0, lag=None, service="echo"):
    """Return the metric families that a worker would send."""
    metrics = Metrics()
    registry = metrics.of(service)
    Counter("hits", "Hits.", ["page"], registry=registry).labels("a").inc(hits)
    Gauge("connections", "Open.", registry=registry).set(connections)
    Info("build", "Build.", registry=registry).info({"version": "1"})
    histogram = Histogram("lag", "Lag.", buckets=(1, 2), registry=registry)
    if lag is not None:
        histogram.observe(lag)
    return tuple(metrics.collect())


class TotalsTests(SynchronousTestCase):
    def setUp(self):
        self.totals = Totals()
        self.registry = CollectorRegistry()
        self.registry.register(ServiceTotals(self.totals, "echo", CollectorRegistry()))

    def value(self, name, **labels):
        return self.registry.get_sample_value(name, labels)

    def test_counters_and_gauges_are_summed_by_name_and_labels(self):
        self.totals.update(1, snapshot(hits=2, connections=5))
        self.totals.update(2, snapshot(hits=3, connections=6))
        self.assertEqual(self.value("hits_total", page="a"), 5)
        self.assertEqual(self.value("connections"), 11)

    def test_the_last_snapshot_of_a_worker_counts(self):
        self.totals.update(1, snapshot(hits=2, connections=5))
        self.totals.update(1, snapshot(hits=4, connections=1))
        self.assertEqual(self.value("hits_total", page="a"), 4)
        self.assertEqual(self.value("connections"), 1)

    def test_histograms_are_summed_by_bucket(self):
        self.totals.update(1, snapshot(lag=0.5))
        self.totals.update(2, snapshot(lag=1.5))
        self.assertEqual(self.value("lag_bucket", le="1.0"), 1)
        self.assertEqual(self.value("lag_bucket", le="2.0"), 2)
        self.assertEqual(self.value("lag_count"), 2)
        self.assertEqual(self.value("lag_sum"), 2)

    def test_a_dead_workers_counts_stay_and_its_gauges_go(self):
        self.totals.update(1, snapshot(hits=2, connections=5, lag=0.5))
        self.totals.retire(1)
        self.totals.update(2, snapshot(hits=1, connections=1))
        self.assertEqual(self.value("hits_total", page="a"), 3)
        self.assertEqual(self.value("connections"), 1)
        self.assertEqual(self.value("lag_count"), 1)

    def test_a_worker_that_died_before_it_reported_changes_nothing(self):
        self.totals.retire(1)
        self.assertEqual(list(self.totals.collect()), [])

    def test_a_time_of_creation_is_the_earliest_and_an_info_is_no_sum(self):
        first, second = snapshot(), snapshot()
        created = min(s.value for m in first for s in m.samples if s.name == "hits_created")
        self.totals.update(2, second)
        self.totals.update(1, first)
        self.assertEqual(self.value("hits_created", page="a"), created)
        self.assertEqual(self.value("build_info", version="1"), 1)

    def test_each_service_sees_its_own(self):
        self.totals.update(1, snapshot(hits=2, service="other"))
        self.assertIsNone(self.value("hits_total", page="a"))

    def test_the_host_publishes_the_sums_under_the_services_name(self):
        metrics = Metrics()
        metrics.of("echo").register(ServiceTotals(self.totals, "echo", CollectorRegistry()))
        self.totals.update(1, snapshot(connections=2))
        (gauge,) = [each for each in metrics.collect() if each.name == "connections"]
        self.assertEqual(gauge.samples[0].labels, {"service": "echo"})

    def test_a_metric_of_which_no_label_was_used_stays(self):
        metrics = Metrics()
        Counter("refused", "Refused.", ["reason"], registry=metrics.of("echo"))
        self.totals.update(1, tuple(metrics.collect()))
        (family,) = self.registry.collect()
        self.assertEqual((family.name, family.samples), ("refused", []))
        self.totals.retire(1)
        self.assertEqual([each.name for each in self.registry.collect()], ["refused"])

    def test_the_supervisors_own_stand_until_the_workers_have_reported(self):
        own, registry = CollectorRegistry(), CollectorRegistry()
        Gauge("connections", "Open.", registry=own)
        registry.register(ServiceTotals(self.totals, "echo", own))
        self.assertEqual(registry.get_sample_value("connections"), 0)
        self.totals.update(1, snapshot(connections=2))
        self.assertEqual(registry.get_sample_value("connections"), 2)

    def test_the_supervisor_itself_accepts_nothing(self):
        own, registry = CollectorRegistry(), CollectorRegistry()
        Gauge("connections", "Open.", registry=own).set(1)
        registry.register(ServiceTotals(self.totals, "echo", own))
        self.totals.update(1, snapshot(connections=0))
        self.assertEqual(registry.get_sample_value("connections"), 0)


class ProcessTotalsTests(SynchronousTestCase):
    def setUp(self):
        self.totals = Totals()
        self.registry = CollectorRegistry()
        self.registry.register(ProcessTotals(self.totals))

    def value(self, name, **labels):
        return self.registry.get_sample_value(name, labels)

    def report(self, worker, **values):
        families = list(ProcessMetrics().collect())
        for family in families:
            family.samples = [
                sample._replace(value=values.get(sample.name, sample.value))
                for sample in family.samples
            ]
        self.totals.update(worker, (*snapshot(hits=1), *families))

    def test_they_are_sums_over_supervisor_and_workers(self):
        alone = self.value("process_cpu_seconds_total")
        self.report(1, process_cpu_seconds_total=1000, process_open_fds=3000)
        self.report(2, process_cpu_seconds_total=2000, process_open_fds=4000)
        self.assertTrue(alone + 3000 <= self.value("process_cpu_seconds_total") < 4000)
        self.assertTrue(7000 < self.value("process_open_fds") < 8000)
        self.assertIsNone(self.value("hits_total", service="echo", page="a"))

    def test_the_cpu_time_of_a_dead_worker_stays(self):
        self.report(1, process_cpu_seconds_total=1000, process_open_fds=3000)
        self.totals.retire(1)
        self.assertGreaterEqual(self.value("process_cpu_seconds_total"), 1000)
        self.assertLess(self.value("process_open_fds"), 3000)

    def test_the_start_is_that_of_the_oldest(self):
        started = self.value("process_start_time_seconds")
        self.report(1, process_start_time_seconds=started + 5)
        self.assertEqual(self.value("process_start_time_seconds"), started)

    def test_no_service_has_them(self):
        self.report(1)
        services = ServiceTotals(self.totals, "echo", CollectorRegistry())
        for _ in range(2):  # of the living, and of the dead
            names = [each.name for each in services.collect()]
            self.assertFalse([each for each in names if each.startswith("process")], names)
            self.totals.retire(1)
