"""The merged metrics of all services."""

from pathlib import Path
from types import SimpleNamespace

from prometheus_client import Counter, Gauge, ProcessCollector
from twisted.trial.unittest import SynchronousTestCase

from evserve.host import metrics
from evserve.host.metrics import Metrics, ProcessMetrics


def samples(metrics):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for metric in metrics.collect()
        for sample in metric.samples
        if not sample.name.endswith("_created")
    }


class MetricsTests(SynchronousTestCase):
    def setUp(self):
        self.metrics = Metrics()

    def test_a_service_has_one_registry_however_often_it_asks(self):
        self.assertIs(self.metrics.of("echo"), self.metrics.of("echo"))
        self.assertIsNot(self.metrics.of("echo"), self.metrics.of("queue"))

    def test_a_metric_of_two_services_is_one_family_with_their_names_as_labels(self):
        for count, service in enumerate(("one", "two"), start=1):
            Gauge("depth", "How deep.", registry=self.metrics.of(service)).set(count)
        self.assertEqual([each.name for each in self.metrics.collect()], ["depth"])
        self.assertEqual(
            samples(self.metrics),
            {("depth", ("service", "one")): 1, ("depth", ("service", "two")): 2},
        )

    def test_labels_of_the_service_itself_are_kept(self):
        counter = Counter("seen", "Seen.", ["kind"], registry=self.metrics.of("echo"))
        counter.labels("udp").inc(3)
        self.assertEqual(
            samples(self.metrics), {("seen_total", ("kind", "udp"), ("service", "echo")): 3}
        )

    def test_a_host_without_services_has_no_metrics(self):
        self.assertEqual(list(self.metrics.collect()), [])


class ProcessMetricsTests(SynchronousTestCase):
    def values(self, *collectors):
        return {
            sample.name: sample.value
            for collector in collectors
            for family in collector.collect()
            for sample in family.samples
            if sample.name.startswith("process_")
        }

    def test_they_are_those_of_prometheus_client(self):
        own = self.values(ProcessMetrics())
        for name, expected in self.values(ProcessCollector(registry=None)).items():
            self.assertTrue(0.9 * expected - 2 <= own.pop(name) <= 1.1 * expected + 2, name)
        self.assertEqual(own, {})

    def test_descriptors_are_counted_where_the_kernel_does_not(self):
        folder = Path(self.mktemp())
        (folder / "self" / "fd").mkdir(parents=True)
        self.patch(metrics, "_PROC", folder)
        self.assertEqual(self.values(ProcessMetrics()), {})
        for name in ("stat", "self/stat"):
            (folder / name).write_bytes(Path("/proc", name).read_bytes())
        self.patch(Path, "stat", lambda _: SimpleNamespace(st_size=0))
        (folder / "self" / "fd" / "7").touch()
        self.assertEqual(self.values(ProcessMetrics())["process_open_fds"], 1)

    def test_the_garbage_collectors_are_there(self):
        self.assertIn("python_gc_collections", [each.name for each in ProcessMetrics().collect()])
