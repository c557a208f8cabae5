"""Requests to the admin port: Host headers, the page and its policy, metrics as text."""

import re

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from evserve.host.admin.http import (
    is_allowed_host,
    metrics_registry,
    metrics_response,
    status_page,
)
from evserve.host.metrics import Metrics, ProcessMetrics


class AllowedHostTests(SynchronousTestCase):
    def assert_allowed(self, reached, *headers):
        for header in headers:
            self.assertTrue(is_allowed_host([header], reached), header)

    def assert_refused(self, reached, *headers):
        for header in headers:
            self.assertFalse(is_allowed_host([header], reached), header)

    def test_the_names_of_loopback_are_allowed_with_and_without_a_port(self):
        names = ("localhost", "LOCALHOST:9100", "127.0.0.1", "127.0.0.1:9100", "[::1]:9100")
        self.assert_allowed("127.0.0.1", *names)
        self.assert_allowed("::1", *names)

    def test_the_loopback_address_that_was_reached_is_allowed(self):
        self.assert_allowed("127.0.0.2", "127.0.0.2:9100")
        self.assert_refused("127.0.0.1", "127.0.0.2:9100")

    def test_a_name_that_was_pointed_at_loopback_is_refused(self):
        self.assert_refused("127.0.0.1", "evil.example", "evil.example:9100")
        self.assert_refused("::1", "localhost.evil.example")
        self.assert_refused("::ffff:127.0.0.1", "evil.example")

    def test_a_malformed_header_is_refused(self):
        self.assert_refused(
            "127.0.0.1", "", "a@localhost", "localhost:9100:1", "[::1", "localhost:x"
        )

    def test_one_foreign_name_among_several_is_refused(self):
        self.assertFalse(is_allowed_host(["localhost", "evil.example"], "127.0.0.1"))

    def test_a_request_without_a_host_header_is_allowed(self):
        self.assertTrue(is_allowed_host([], "127.0.0.1"))

    def test_any_name_is_allowed_on_other_addresses(self):
        self.assert_allowed("192.0.2.7", "metrics.example.com")
        self.assert_allowed("2001:db8::1", "metrics.example.com")
        self.assert_allowed("::ffff:192.0.2.7", "metrics.example.com")  # IPv4 to ::
        self.assert_allowed("fe80::1%eth0", "metrics.example.com")

    def test_any_name_is_allowed_on_a_unix_socket(self):
        self.assert_allowed(None, "whatever")


class StatusPageTests(SynchronousTestCase):
    def test_it_loads_nothing_from_other_servers(self):
        page = status_page().body.decode()
        links = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')>\s]+)""", page)
        self.assertEqual(set(links), {"data:,", "/api/status", "/metrics", "/healthz", "/readyz"})

    def test_only_its_own_style_and_script_may_run(self):
        response = status_page()
        self.assertIn("default-src 'none'", response.policy)
        for source in ("style-src", "script-src"):
            self.assertRegex(response.policy, rf"{source} 'sha256-[\w+/]{{43}}=';")
        self.assertNotIn("unsafe", response.policy)
        self.assertNotRegex(response.body.decode(), r"<[^>]* (style|on\w+)=")


class MetricsResponseTests(SynchronousTestCase):
    def setUp(self):
        metrics = Metrics()
        for name in ("echo", "shouter"):
            Counter("lines", "Lines.", registry=metrics.of(name)).inc(3)
        self.metrics = metrics
        self.registry = metrics_registry(metrics, ProcessMetrics())

    def test_prometheus_text_is_the_default(self):
        for accept in ("", "*/*", "text/html", "application/openmetrics-text;q=0"):
            response = metrics_response(self.registry, accept)
            self.assertEqual(response.content_type, "text/plain; version=0.0.4; charset=utf-8")
            self.assertIn(b'lines_total{service="echo"} 3.0\n', response.body)
            self.assertIn(b'lines_total{service="shouter"} 3.0\n', response.body)

    def test_openmetrics_if_the_client_accepts_it(self):
        for accept in (
            "application/openmetrics-text",
            "text/plain, Application/OpenMetrics-Text; version=1.0.0; q=0.5",
        ):
            response = metrics_response(self.registry, accept)
            self.assertTrue(response.content_type.startswith("application/openmetrics-text"))
            self.assertTrue(response.body.endswith(b"# EOF\n"))

    def test_a_strict_parser_accepts_the_openmetrics_text(self):
        for name in ("echo", "shouter"):
            wait = Histogram("wait", "Wait.", ["kind"], registry=self.metrics.of(name))
            wait.labels("a").observe(1)
        body = metrics_response(self.registry, "application/openmetrics-text").body.decode()
        families = {each.name: each for each in text_string_to_metric_families(body)}
        services = {each.labels["service"] for each in families["wait"].samples}
        self.assertEqual(services, {"echo", "shouter"})

    def test_metrics_of_the_process_are_included(self):
        body = metrics_response(self.registry, "").body
        for name in (
            b"process_resident_memory_bytes ",
            b"python_info{",
            b"python_gc_collections_",
        ):
            self.assertIn(name, body)

    def test_a_service_whose_metrics_raise_does_not_hide_the_others(self):
        broken = Gauge("broken", "Raises.", registry=self.metrics.of("echo"))
        broken.set_function(lambda: 1 / 0)
        for _ in range(2):
            self.assertIn(
                b'lines_total{service="shouter"} 3.0\n', metrics_response(self.registry, "").body
            )
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
