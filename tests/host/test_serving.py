"""What a service sees of the host, and how services become one tree."""

import io
import sys
from types import SimpleNamespace

from prometheus_client import Gauge
from twisted.application.service import Service
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from evserve.host import process
from evserve.host.application import Root
from evserve.host.options import Limits, with_listening_options
from evserve.host.orders import Order
from evserve.host.serving import ServiceHost, build_tree
from evserve.interfaces import LoadedService


class Case(SynchronousTestCase):
    def setUp(self):
        self.patch(process, "raise_file_limit", lambda: 1024)
        self.patch(process, "exit_with", lambda _: None)
        self.patch(sys, "stderr", io.StringIO())
        self.reactor = MemoryReactorClock()
        self.root = Root(self.reactor, {"nodaemon": 1})


class HostTests(Case):
    def setUp(self):
        super().setUp()
        self.host = ServiceHost("echo", self.root)

    def listen(self, *words):
        options = with_listening_options(usage.Options)()
        options.parseOptions(words)
        return self.host.listen(options, Factory.forProtocol(Protocol))

    def test_it_listens_where_the_options_say_with_their_limits(self):
        service = self.listen("--port", "7", "--interface", "::1", "--max-connections", "3")
        service.startService()
        port, door, _, interface = self.reactor.tcpServers[0]
        self.assertEqual((port, interface), (7, "::1"))
        self.assertEqual((door.name, door.limits), ("echo", Limits(3, None, None)))
        self.assertEqual(self.root.listening, [service])

    def test_a_bad_endpoint_is_refused_before_anything_listens(self):
        self.assertRaises(usage.UsageError, self.listen, "--listen", "smoke:1")
        self.assertEqual(self.root.listening, [])

    def test_metrics_of_the_door_are_the_services(self):
        self.listen("--port", "7")
        self.assertEqual(self.host.metrics.get_sample_value("evserve_connections"), 0)

    def test_each_service_has_a_registry_of_its_own(self):
        Gauge("depth", "How deep.", registry=self.host.metrics)
        Gauge("depth", "How deep.", registry=ServiceHost("other", self.root).metrics)

    def test_the_reactor_is_that_of_the_root(self):
        self.assertIs(self.host.reactor, self.reactor)

    def test_a_failure_bears_the_name_of_the_service(self):
        self.host.fail("no luck")
        self.assertEqual(self.root.failure, "echo: no luck")

    def test_finishing_ends_the_process(self):
        statuses = []
        self.patch(self.root, "finish", statuses.append)
        self.host.finish(3)
        self.host.finish()
        self.assertEqual(statuses, [3, 0])


class TreeTests(Case):
    def build(self, make, name="x"):
        plugin = SimpleNamespace(name=name)
        order = Order(name, plugin, LoadedService(usage.Options, make), usage.Options())
        return build_tree([order], self.root)

    def refusal(self, make):
        return self.assertRaises(SystemExit, self.build, make).code

    def test_services_are_children_under_their_names(self):
        root = self.build(lambda *_: Service())
        self.assertEqual([child.name for child in root], ["x"])

    def test_a_mistake_ends_the_process_with_one_line(self):
        def make(options, host):
            raise ValueError("give me more")

        self.assertEqual(self.refusal(make), "evserve: x: give me more")
        self.assertEqual(sys.stderr.getvalue(), "")

    def test_a_defect_shows_its_place_as_well(self):
        def make(options, host):
            raise ZeroDivisionError("oh")

        self.assertEqual(self.refusal(make), "evserve: x: ZeroDivisionError: oh")
        self.assertIn("Traceback", sys.stderr.getvalue())

    def test_what_is_returned_must_be_a_service(self):
        reason = "evserve: x: makeService returned None, not a service"
        self.assertEqual(self.refusal(lambda *_: None), reason)
