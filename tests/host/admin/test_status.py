"""What /api/status says: metrics, services and the process as values."""

import json

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, Summary
from prometheus_client.core import GaugeMetricFamily
from twisted.trial.unittest import SynchronousTestCase

from evserve.host.admin.status import Series, Status, metric_values, service_metrics
from evserve.host.application import Phase
from evserve.host.metrics import Metrics


class MetricValuesTests(SynchronousTestCase):
    """Each kind of prometheus_client metric becomes values for charts."""

    def setUp(self):
        self.registry = CollectorRegistry()

    def only(self):
        (family,) = self.registry.collect()
        return metric_values(family, family.samples)

    def test_gauge_by_labels(self):
        gauge = Gauge("depth", "Depth.", ["tube"], registry=self.registry)
        gauge.labels("a").set(3)
        gauge.labels("b").set(4)
        values = self.only()
        self.assertEqual((values.name, values.type, values.help), ("depth", "gauge", "Depth."))
        self.assertEqual(values.series, (Series({"tube": "a"}, 3.0), Series({"tube": "b"}, 4.0)))

    def test_counter(self):
        Counter("puts", "Puts.", registry=self.registry).inc(2)
        self.assertEqual(self.only().series, (Series({}, 2.0),))

    def test_histogram(self):
        histogram = Histogram("wait", "Wait.", buckets=(1, 2), registry=self.registry)
        histogram.observe(1.5)
        histogram.observe(9)
        buckets = (("1.0", 0.0), ("2.0", 1.0), ("+Inf", 2.0))
        self.assertEqual(self.only().series, (Series({}, None, 2.0, 10.5, buckets),))

    def test_summary(self):
        Summary("size", "Size.", registry=self.registry).observe(4)
        self.assertEqual(self.only().series, (Series({}, None, 1.0, 4.0),))

    def test_info_keeps_its_labels(self):
        Info("build", "Build.", registry=self.registry).info({"flavour": "x"})
        self.assertEqual(self.only().series, (Series({"flavour": "x"}),))

    def test_a_bool_is_a_number(self):
        """prometheus_client takes it as it is, and the page formats numbers only."""
        family = GaugeMetricFamily("up", "Up.", value=True)
        (series,) = metric_values(family, family.samples).series
        self.assertEqual(json.dumps(series.value), "1.0")

    def test_what_json_cannot_express_is_none(self):
        gauge = Gauge("ratio", "Ratio.", registry=self.registry)
        for value in (float("nan"), float("inf"), float("-inf")):
            gauge.set(value)
            self.assertEqual(self.only().series, (Series({}, None),))


class ServiceMetricsTests(SynchronousTestCase):
    def setUp(self):
        self.metrics = Metrics()

    def of(self, name):
        return service_metrics(name, self.metrics.collect())

    def test_a_service_that_does_not_listen_has_no_counts(self):
        Gauge("depth", "Depth.", registry=self.metrics.of("job")).set(1)
        self.assertIsNone(self.of("job")[0]["connections"])

    def test_a_service_sees_its_own_metrics_only(self):
        Gauge("depth", "Depth.", registry=self.metrics.of("one")).set(1)
        Gauge("height", "Height.", registry=self.metrics.of("two")).set(2)
        self.assertEqual([each.name for each in self.of("one")[1]], ["depth"])


class StatusTests(SynchronousTestCase):
    def test_the_process_stands_at_the_top_of_the_json(self):
        process = ("1.0", 7, 1.5, "EPollReactor", "3.13.0", "26.10.0")
        status = json.loads(Status(Phase.DRAINING, "draining: 1 left", (), *process).as_json())
        self.assertEqual(
            (status["pid"], status["uptime"], status["phase"], status["services"]),
            (7, 1.5, "draining", []),
        )
