"""The admin port in memory: requests through its protocol factory."""

import io
import json
import os
import tempfile

from prometheus_client import Gauge
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransportWithDisconnection
from twisted.python.failure import Failure
from twisted.python.usage import Options
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides, providedBy

from evserve import __version__
from evserve.host import process
from evserve.host.admin.http import MAX_CONNECTIONS, REQUEST_SECONDS
from evserve.host.admin.service import make_admin
from evserve.host.application import RootService, add_services
from evserve.host.command import Options as HostOptions
from evserve.host.config import ServiceConfig
from evserve.host.options import with_listening_options
from evserve.interfaces import IReadiness, LoadedService
from evserve.plugin import ServicePlugin


def listener(options, host):
    return host.listen(options, Factory.forProtocol(Protocol))


def config_of(name):
    options = with_listening_options(Options)()
    options.parseOptions(["--port", "0"])
    plugin = ServicePlugin("stub", "stub.service", "Accepts connections.")
    return ServiceConfig(name, plugin, LoadedService(Options, listener), options)


class Client:
    """An HTTP client of a protocol factory."""

    def __init__(self, factory, reached="127.0.0.1"):
        self.transport = StringTransportWithDisconnection(
            hostAddress=IPv4Address("TCP", reached, 9100),
            peerAddress=IPv4Address("TCP", "127.0.0.1", 50000),
        )
        self.protocol = self.transport.protocol = factory.buildProtocol(self.transport.peerAddr)
        self.protocol.makeConnection(self.transport)

    def request(self, path, method="GET", **headers):
        """Send a request; return status, headers and body of the response."""
        lines = {"Host": "localhost:9100", **headers}
        text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.transport.clear()
        self.protocol.dataReceived(f"{method} {path} HTTP/1.1\r\n{text}\r\n".encode())
        head, _, body = self.transport.value().partition(b"\r\n\r\n")
        status, *fields = head.decode().split("\r\n")
        pairs = (field.split(": ", 1) for field in fields)
        named = {name.lower(): value for name, value in pairs}
        return int(status.split()[1]), named, body


class AdminTests(SynchronousTestCase):
    def setUp(self):
        self.patch(process, "before_threads_end", lambda _: None)
        self.patch(process, "limit_exit", lambda *_: None)
        self.reactor = MemoryReactorClock()
        self.root = RootService(self.reactor, {"nodaemon": True})
        configs = [config_of("one"), config_of("two")]
        add_services(configs, self.root)
        self.admin = self.root.admin = make_admin("tcp:0", configs, self.root)
        self.client = Client(self.admin.limiter)

    def start(self):
        self.root.privilegedStartService()
        self.root.startService()

    def serve(self):
        self.start()
        for hook, words, named in self.reactor.whenRunningHooks:
            hook(*words, **named)

    def status(self):
        return json.loads(self.client.request("/api/status")[2])

    def test_healthz_is_ok_before_the_start(self):
        self.assertEqual(self.client.request("/healthz")[::2], (200, b"ok\n"))

    def test_not_ready_before_every_service_listens(self):
        expected = (503, b"starting: waiting for one, two to listen\n")
        self.assertEqual(self.client.request("/readyz")[::2], expected)

    def test_not_ready_before_the_reactor_runs(self):
        self.start()
        self.assertEqual(self.client.request("/readyz")[::2], (503, b"starting\n"))

    def test_ready_once_everything_has_started(self):
        self.serve()
        self.assertEqual(self.client.request("/readyz")[::2], (200, b"ready\n"))

    def test_a_service_may_say_that_it_is_not_ready(self):
        self.serve()
        service = self.root.getServiceNamed("two")
        service.unready_reason = lambda: "its store is locked"
        directlyProvides(service, IReadiness, providedBy(service))
        expected = (503, b"two: its store is locked\n")
        self.assertEqual(self.client.request("/readyz")[::2], expected)
        service.unready_reason = lambda: None
        self.assertEqual(self.client.request("/readyz")[::2], (200, b"ready\n"))

    def test_a_failure_is_a_reason(self):
        self.patch(self.root, "finish", lambda _: None)
        self.patch(self.root, "_terminal", io.StringIO())
        self.serve()
        self.root.fail("no room")
        self.assertEqual(self.client.request("/readyz")[::2], (503, b"failed: no room\n"))

    def test_it_answers_while_the_services_drain_and_no_longer(self):
        self.serve()
        lingering = Client(self.root.listeners[0].limiter)
        lingering.transport.loseConnection = lambda: None
        stopped = self.root.stopService()
        self.assertEqual(self.client.request("/readyz")[::2], (503, b"draining: 1 left\n"))
        self.assertEqual(self.status()["phase"], "draining")
        lingering.protocol.connectionLost(Failure(ConnectionDone()))
        self.successResultOf(stopped)
        self.assertFalse(self.client.transport.connected)

    def test_its_own_connections_do_not_delay_the_stop(self):
        self.serve()
        transport = self.client.transport
        transport.abortConnection = transport.loseConnection
        transport.loseConnection = lambda: None  # this client never closes
        self.successResultOf(self.root.stopService())

    def test_it_is_not_listed_among_the_services(self):
        self.serve()
        self.assertEqual([each["name"] for each in self.status()["services"]], ["one", "two"])
        self.assertNotIn(b'service="admin"', self.client.request("/metrics")[2])

    def test_status_describes_the_process(self):
        self.serve()
        self.reactor.advance(90)
        status = self.status()
        self.assertEqual((status["phase"], status["reason"]), ("serving", None))
        self.assertEqual((status["uptime"], status["pid"]), (90, os.getpid()))
        self.assertEqual(status["version"], __version__)

    def test_status_describes_each_service(self):
        Gauge("depth", "Depth.", registry=self.root.metrics.of("one")).set(5)
        self.serve()
        Client(self.root.listeners[0].limiter).protocol.dataReceived(b"12345")
        one, two = self.status()["services"]
        self.assertEqual((one["plugin"], one["description"]), ("stub", "Accepts connections."))
        self.assertEqual(one["listening"], ["tcp 0.0.0.0:0"])  # what the memory reactor reports
        self.assertEqual((one["connections"], one["accepted"], one["refused"]), (1, 1, 0))
        self.assertEqual((one["received_bytes"], two["received_bytes"]), (5, 0))
        (depth,) = one["metrics"]
        self.assertEqual((depth["name"], depth["series"][0]["value"]), ("depth", 5))

    def test_metrics_in_the_format_that_the_client_accepts(self):
        _, headers, body = self.client.request("/metrics", Accept="application/openmetrics-text")
        self.assertIn("openmetrics", headers["content-type"])
        self.assertIn(b'evserve_connections{service="two"} 0.0', body)

    def test_the_page_is_html(self):
        status, headers, body = self.client.request("/")
        self.assertEqual((status, headers["content-type"]), (200, "text/html; charset=utf-8"))
        self.assertIn("script-src 'sha256-", headers["content-security-policy"])
        self.assertTrue(body.startswith(b"<!doctype html>"))

    def test_every_response_has_headers_that_protect_browsers(self):
        for path in ("/", "/metrics", "/nowhere"):
            _, headers, _ = self.client.request(path)
            self.assertIn("default-src 'none'", headers["content-security-policy"])
            self.assertEqual(headers["x-content-type-options"], "nosniff")
            self.assertEqual(headers["referrer-policy"], "no-referrer")
            self.assertEqual(headers["cache-control"], "no-store")

    def test_an_unknown_path_lists_the_known_ones(self):
        status, _, body = self.client.request("/metrics/x?y=1")
        self.assertEqual(status, 404)
        self.assertIn(b"/readyz", body)

    def test_a_query_changes_nothing(self):
        self.assertEqual(self.client.request("/healthz?verbose=1")[0], 200)

    def test_head_is_get_without_the_body(self):
        status, headers, body = self.client.request("/healthz", method="HEAD")
        self.assertEqual((status, headers["content-length"], body), (200, "3", b""))

    def test_other_methods_are_refused(self):
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "BREW"):
            status, headers, _ = self.client.request("/healthz", method=method)
            self.assertEqual((status, headers["allow"]), (405, "GET, HEAD"))

    def test_a_foreign_name_for_loopback_is_refused(self):
        self.assertEqual(self.client.request("/api/status", Host="evil.example")[0], 421)

    def test_any_name_is_allowed_on_an_address_of_the_network(self):
        client = Client(self.admin.limiter, reached="192.0.2.7")
        self.assertEqual(client.request("/healthz", Host="metrics.example.com")[0], 200)

    def slow_clients(self, count):
        """Return clients that begin a request."""
        clients = [Client(self.admin.limiter) for _ in range(count)]
        for client in clients:
            client.transport.abortConnection = client.transport.loseConnection
            client.protocol.dataReceived(b"GET /healthz HTTP/1.1\r\nHost")
        return clients

    def test_the_client_that_was_served_least_recently_makes_room_for_a_new_one(self):
        """So many clients use up neither the descriptors of the services nor /healthz."""
        slow = self.slow_clients(MAX_CONNECTIONS)
        self.client.transport.abortConnection = self.client.transport.loseConnection
        self.assertFalse(self.client.transport.connected)  # it had sent nothing
        first = Client(self.admin.limiter)
        first.transport.abortConnection = first.transport.loseConnection
        self.assertEqual(first.request("/healthz")[0], 200)
        self.slow_clients(MAX_CONNECTIONS - 1)
        self.assertFalse(any(each.transport.connected for each in slow))
        self.assertEqual(first.request("/healthz")[0], 200)
        self.assertEqual(len(self.admin.limiter.connections), MAX_CONNECTIONS)

    def test_a_request_that_comes_slowly_is_cut(self):
        (slow,) = self.slow_clients(1)
        self.assertEqual(self.client.request("/healthz")[0], 200)
        for _ in range(REQUEST_SECONDS):
            self.assertTrue(slow.transport.connected)
            self.reactor.advance(1)
            slow.protocol.dataReceived(b"x")
        self.assertFalse(slow.transport.connected)
        self.assertTrue(self.client.transport.connected)  # it is idle between two requests

    def test_a_large_body_is_neither_stored_nor_waited_for(self):
        for header in ("Content-Length: 300000000", "Transfer-Encoding: chunked"):
            client = Client(self.admin.limiter)
            head = f"POST / HTTP/1.1\r\nHost: localhost\r\n{header}\r\n\r\n"
            client.protocol.dataReceived(head.encode() + b"x" * 1000)
            client.protocol.dataReceived(b"x" * 1000)
            self.assertTrue(client.transport.value().startswith(b"HTTP/1.1 413 "))
            self.assertFalse(client.transport.connected)

    def test_a_request_has_one_host_header(self):
        for head in ("GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"):
            client = Client(self.admin.limiter)
            client.protocol.dataReceived(head.encode())
            self.assertTrue(client.transport.value().startswith(b"HTTP/1.1 400 "))
        self.client.protocol.dataReceived(b"GET /healthz HTTP/1.0\r\n\r\n")
        self.assertIn(b" 200 OK\r\n", self.client.transport.value())

    def test_it_answers_when_the_services_are_out_of_descriptors(self):
        self.serve()
        self.root.descriptors._pause()
        client = Client(self.admin.limiter)
        self.assertEqual(client.request("/healthz")[0], 200)
        reason = b"not accepting, because few file descriptors are free: one, two\n"
        self.assertEqual(client.request("/readyz")[::2], (503, reason))
        self.assertNotIn(self.admin.ports[0], self.root.descriptors.ports)


class AdminOptionTests(SynchronousTestCase):
    def refusal(self, *words):
        error = self.assertRaises(SystemExit, HostOptions().parseOptions, list(words))
        return str(error)

    def test_off_unless_asked_for(self):
        options = HostOptions()
        options.parseOptions(["echo", "--port", "0"])
        self.assertIsNone(options["admin"])

    def test_loopback_unless_it_says_otherwise(self):
        reactor = MemoryReactorClock()
        make_admin("tcp:9100", [], RootService(reactor, {})).privilegedStartService()
        make_admin(
            "tcp:9100:interface=0.0.0.0", [], RootService(reactor, {})
        ).privilegedStartService()
        self.assertEqual([server[3] for server in reactor.tcpServers], ["127.0.0.1", "0.0.0.0"])

    def test_a_bad_endpoint_is_one_line(self):
        refusal = self.refusal("--admin", "tcp:xyz", "echo", "--port", "0")
        self.assertEqual(
            refusal, "evserve: --admin 'tcp:xyz': 'xyz' is not a port number (0 to 65535)"
        )

    def test_a_bad_endpoint_in_the_config_file_is_named_with_its_place(self):
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
            file.write('[evserve]\nadmin = "9100"\n[services.echo]\nport = 0\n')
            file.flush()
            refusal = self.refusal("--config", file.name)
        self.assertIn(f"{file.name}: [evserve] admin: '9100': unknown kind", refusal)
