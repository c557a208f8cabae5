"""The merged metrics of all services."""

from prometheus_client import Counter, Gauge
from twisted.trial.unittest import SynchronousTestCase

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
    def test_they_are_those_of_this_process(self):
        names = {each.name for each in ProcessMetrics().collect()}
        self.assertIn("python_gc_collections", names)
        self.assertIn("process_cpu_seconds", names)
