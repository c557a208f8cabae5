from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from evserve.host.admin.exposition import exposition, registry_of
from evserve.host.metrics import Metrics


class ExpositionTests(SynchronousTestCase):
    def setUp(self):
        metrics = Metrics()
        for name in ("echo", "shouter"):
            Counter("lines", "Lines.", registry=metrics.of(name)).inc(3)
        self.metrics = metrics
        self.registry = registry_of(metrics)

    def test_prometheus_text_is_what_one_gets(self):
        for accept in ("", "*/*", "text/html", "application/openmetrics-text;q=0"):
            answer = exposition(self.registry, accept)
            self.assertEqual(answer.content_type, "text/plain; version=0.0.4; charset=utf-8")
            self.assertIn(b'lines_total{service="echo"} 3.0\n', answer.body)
            self.assertIn(b'lines_total{service="shouter"} 3.0\n', answer.body)

    def test_openmetrics_for_those_who_ask(self):
        for accept in (
            "application/openmetrics-text",
            "text/plain, Application/OpenMetrics-Text; version=1.0.0; q=0.5",
        ):
            answer = exposition(self.registry, accept)
            self.assertTrue(answer.content_type.startswith("application/openmetrics-text"))
            self.assertTrue(answer.body.endswith(b"# EOF\n"))

    def test_openmetrics_is_such_that_a_strict_parser_takes_it(self):
        for name in ("echo", "shouter"):
            wait = Histogram("wait", "Wait.", ["kind"], registry=self.metrics.of(name))
            wait.labels("a").observe(1)
        body = exposition(self.registry, "application/openmetrics-text").body.decode()
        families = {each.name: each for each in text_string_to_metric_families(body)}
        services = {each.labels["service"] for each in families["wait"].samples}
        self.assertEqual(services, {"echo", "shouter"})

    def test_the_process_is_measured_too(self):
        body = exposition(self.registry, "").body
        for name in (
            b"process_resident_memory_bytes ",
            b"python_info{",
            b"python_gc_collections_",
        ):
            self.assertIn(name, body)

    def test_a_service_whose_metrics_raise_hides_nobody_elses(self):
        broken = Gauge("broken", "Raises.", registry=self.metrics.of("echo"))
        broken.set_function(lambda: 1 / 0)
        for _ in range(2):
            self.assertIn(
                b'lines_total{service="shouter"} 3.0\n', exposition(self.registry, "").body
            )
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
