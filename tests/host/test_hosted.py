"""Services of twistd plugins: their Application, their ports, their drain."""

import os
from types import SimpleNamespace

from twisted.application.internet import StreamServerEndpointService, TCPServer
from twisted.application.service import (
    Application,
    IProcess,
    IService,
    MultiService,
    Process,
    Service,
)
from twisted.internet import reactor, ssl
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.tcp import Port
from twisted.logger import ILogObserver, Logger, globalLogPublisher
from twisted.protocols.policies import WrappingFactory
from twisted.python import usage
from twisted.python.components import Componentized
from twisted.python.log import ILogObserver as ILegacyLogObserver
from twisted.trial.unittest import TestCase
from zope.interface import provider

from evserve.host.config import ServiceConfig
from evserve.host.connections import ConnectionLimiter, DescriptorLimiter
from evserve.host.hosted import HostedFactory, HostedService
from evserve.host.options import Limits
from evserve.interfaces import LoadedService
from evserve.testing import MemoryHost
from tests.certificates import make_certificates


START_LISTENING = Port.startListening


class Recorder(Service):
    """Remembers what was called, in `happened`."""

    def __init__(self, happened, error=None):
        self.happened, self.error = happened, error

    def setServiceParent(self, parent):
        self.happened.append(parent)
        super().setServiceParent(parent)

    def privilegedStartService(self):
        self.happened.append("privileged")

    def startService(self):
        super().startService()
        self.happened.append("start")
        if self.error is not None:
            raise self.error

    def stopService(self):
        super().stopService()
        self.happened.append("stop")


class Case(TestCase):
    def setUp(self):
        self.root = MultiService()
        self.happened, self.logged = [], []
        globalLogPublisher.addObserver(self.logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)

    def host(self, make, name="plug", module="plugs.tap", **limits):
        """Return the service of a plugin whose makeService is `make`."""
        plugin = SimpleNamespace(name=name, module=module)
        loaded = LoadedService(usage.Options, lambda options, _: make(options))
        config = ServiceConfig(name, plugin, loaded, usage.Options())
        clock = Clock()
        limiter = ConnectionLimiter(
            name, Factory(), Limits(**limits), clock, DescriptorLimiter(clock, 1024)
        )
        service = HostedService(MemoryHost(), {}, limiter, config)
        self.addCleanup(lambda: service.stopService().addErrback(lambda _: None))
        service.make()
        service.setName(name)
        service.setServiceParent(self.root)
        return service

    def start(self, service):
        service.privilegedStartService()
        service.startService()

    def serving(self, make, **how):
        service = self.host(make, **how)
        self.start(service)
        return service

    def listen(self, factory=None):
        port = reactor.listenTCP(
            0, factory or Factory.forProtocol(Protocol), interface="127.0.0.1"
        )
        self.addCleanup(port.stopListening)
        return port

    def tcp(self, factory=None):
        return TCPServer(0, factory or Factory.forProtocol(Protocol), interface="127.0.0.1")


class ApplicationTests(Case):
    def test_its_parent_is_an_application(self):
        self.host(lambda _: Recorder(self.happened))
        (parent,) = self.happened
        self.assertIsInstance(parent, Componentized)
        self.assertEqual(IService(parent).name, "plug")

    def test_a_service_that_has_a_parent_is_moved(self):
        def make(_):
            top = MultiService()
            top.setServiceParent(Application("own"))
            top.addService(Recorder(self.happened))
            return top

        self.serving(make)
        self.assertEqual(self.happened, ["privileged", "start"])

    def test_an_application_may_be_returned(self):
        application = Application("own")
        Recorder(self.happened).setServiceParent(application)
        self.serving(lambda _: application)
        self.assertEqual(self.happened[1:], ["privileged", "start"])

    async def test_a_service_that_is_started_is_not_started_again_but_stopped(self):
        service = Recorder(self.happened)
        service.startService()
        hosted = self.serving(lambda _: service)
        await hosted.stopService()
        self.assertEqual(self.happened[:1] + self.happened[2:], ["start", "stop"])

    async def test_what_is_added_later_starts_and_stops_with_it(self):
        application = []

        class Adding(Service):
            def setServiceParent(self, parent):
                super().setServiceParent(parent)
                application.append(parent)

        hosted = self.serving(lambda _: Adding())
        Recorder(self.happened).setServiceParent(application[0])
        await hosted.stopService()
        self.assertEqual(self.happened[1:], ["privileged", "start", "stop"])

    async def test_what_was_never_started_is_not_stopped(self):
        first, second = [], []
        application = Application("own")

        class Two(Recorder):
            def setServiceParent(self, parent):
                super().setServiceParent(parent)
                Recorder(second).setServiceParent(parent)

        hosted = self.host(lambda _: Two(first, error=OSError("no")))
        hosted.privilegedStartService = Service.privilegedStartService.__get__(hosted)
        self.assertRaises(OSError, self.start, hosted)
        await hosted.stopService()
        self.assertEqual((first[1:], second[1:]), (["start", "stop"], []))
        self.assertEqual(list(IService(application)), [])

    def test_what_is_no_service_is_a_mistake(self):
        with self.assertRaises(usage.UsageError) as caught:
            self.host(lambda _: "text")
        self.assertEqual(str(caught.exception), "makeService returned 'text', not a service")

    async def test_a_service_that_fails_to_stop_is_a_failure(self):
        class Failing(Service):
            def stopService(self):
                raise RuntimeError("no")

        hosted = self.serving(lambda _: Failing())
        with self.assertRaises(RuntimeError):
            await hosted.stopService()


class ProcessTests(Case):
    def wanting(self, **wants):
        class Wanting(Service):
            def setServiceParent(self, parent):
                super().setServiceParent(parent)
                vars(IProcess(parent)).update(wants)

        return self.host(lambda _: Wanting())

    def test_the_user_that_it_asks_for_is_the_process_s(self):
        process = Process()
        hosted = self.wanting(uid=5, gid=6)
        hosted.share_process(process)
        self.assertEqual((process.uid, process.gid, process.processName), (5, 6, None))
        IProcess(hosted.application).gid = 7
        self.assertEqual(process.gid, 7)

    def test_two_users_cannot_be_had(self):
        hosted = self.wanting(uid=5)
        error = self.assertRaises(usage.UsageError, hosted.share_process, Process(uid=6))
        self.assertEqual(
            str(error), "wants the uid 5, and another service 6 (run them in two processes)"
        )


class ObserverTests(Case):
    def observing(self, interface):
        seen = []

        @provider(interface)
        def observe(event):
            seen.append(event)

        class Observing(Service):
            def setServiceParent(self, parent):
                super().setServiceParent(parent)
                parent.setComponent(interface, observe)

        return self.serving(lambda _: Observing()), seen

    async def check(self, interface):
        hosted, seen = self.observing(interface)
        Logger().info("one")
        await hosted.stopService()
        Logger().info("two")
        formats = [event.get("log_format") for event in seen]
        self.assertIn("one", formats)
        self.assertNotIn("two", formats)

    async def test_its_log_observer_sees_what_the_host_logs(self):
        await self.check(ILogObserver)

    async def test_so_does_one_of_the_old_kind(self):
        await self.check(ILegacyLogObserver)


class PortTests(Case):
    def addresses(self, hosted):
        return [address.rpartition(":")[0] for address in hosted.addresses]

    def announced(self):
        return [event["address"] for event in self.logged if "address" in event]

    def test_ports_are_shown_whichever_way_they_are_opened(self):
        class Listening(Service):
            privilegedStartService = startService = lambda _: self.listen()

        def make(_):
            self.listen()
            top = MultiService()
            top.addService(self.tcp())
            endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
            top.addService(StreamServerEndpointService(endpoint, Factory()))
            top.addService(Listening())
            return top

        hosted = self.serving(make)
        self.assertEqual(self.addresses(hosted), ["tcp 127.0.0.1"] * 5)
        self.assertEqual(self.announced(), hosted.addresses)
        self.assertEqual(self.logged[-1]["name"], "plug")

    def test_other_kinds_of_ports_are_shown_too(self):
        certificates = make_certificates()
        context = ssl.PrivateCertificate.loadPEM(certificates.server_pem).options()

        def make(_):
            ports = (
                reactor.listenSSL(0, Factory(), context, interface="127.0.0.1"),
                reactor.listenUDP(0, DatagramProtocol(), interface="127.0.0.1"),
                reactor.listenUNIX(os.path.abspath("s"), Factory()),  # noqa: PTH100
                reactor.listenUNIXDatagram(os.path.abspath("d"), DatagramProtocol()),  # noqa: PTH100
                reactor.adoptStreamPort(self.other.fileno(), self.other.addressFamily, Factory()),
            )
            for each in ports:
                self.addCleanup(each.stopListening)
            return Service()

        self.other = self.listen()
        hosted = self.serving(make)
        self.assertEqual(
            [address.partition(" ")[0] for address in hosted.addresses],
            ["ssl", "udp", "unix", "unix", "tcp"],
        )

    async def test_a_port_that_closes_is_no_longer_shown(self):
        ports = []
        hosted = self.serving(lambda _: ports.append(self.listen()) or Service())
        self.assertEqual(hosted.limiter.descriptors.ports, set(ports))
        await ports[0].stopListening()
        self.assertEqual((hosted.addresses, hosted.ports), ([], []))
        self.assertEqual(hosted.limiter.descriptors.ports, set())

    def test_a_port_that_is_opened_later_belongs_to_the_only_service(self):
        hosted = self.serving(lambda _: Service())
        port = self.listen()
        self.assertEqual(hosted.ports, [port])

    def test_among_several_it_belongs_to_the_one_whose_code_opens_it(self):
        first = self.serving(lambda _: Service(), name="a", module="a.tap")
        second = self.serving(lambda _: Service(), name="b", module=f"{__package__}.tap")
        port = self.listen()
        self.assertEqual((first.ports, second.ports), ([], [port]))

    def test_or_to_the_one_whose_protocol_opens_it(self):
        outer = self

        class Opening(Protocol):
            def connectionMade(self):
                outer.listen()

        self.serving(lambda _: Service(), name="a", module="a.tap")
        second = self.serving(
            lambda _: self.tcp(Factory.forProtocol(Opening)), name="b", module="b.tap"
        )
        protocol = second.ports[0].factory.buildProtocol(None)
        protocol.transport = SimpleNamespace(fileno=lambda: 3)
        second.limiter.connections.add(protocol)
        protocol.connectionMade()
        self.assertEqual(len(second.ports), 2)
        second.limiter.connections.clear()

    def test_when_nothing_tells_it_is_left_alone(self):
        for name in "ab":
            self.serving(lambda _: Service(), name=name, module=f"{name}.tap")
        factory = Factory()
        self.assertIs(self.listen(factory).factory, factory)

    def test_the_port_of_another_service_is_not_its_own(self):
        hosted = self.serving(lambda _: Service())
        limiter = hosted.limiter
        port = self.listen(WrappingFactory(limiter))
        self.assertEqual((hosted.ports, port.factory.wrappedFactory), ([], limiter))

    def test_twisted_s_ports_are_as_before_once_all_have_stopped(self):
        hosted = self.serving(lambda _: Service())
        self.assertIsNot(Port.startListening, START_LISTENING)
        stopped = hosted.stopService()
        self.assertIs(Port.startListening, START_LISTENING)
        return stopped

    def test_a_port_in_use_is_an_error_for_an_endpoint_service_too(self):
        taken = self.listen().getHost().port
        endpoint = TCP4ServerEndpoint(reactor, taken, interface="127.0.0.1")
        top = MultiService()
        top.addService(StreamServerEndpointService(endpoint, Factory()))
        hosted = self.host(lambda _: top)
        self.assertRaises(CannotListenError, self.start, hosted)
        self.flushLoggedErrors(AttributeError)


class LimiterTests(Case):
    def test_all_its_ports_share_its_limits(self):
        def make(_):
            self.listen()
            self.listen()
            return Service()

        hosted = self.serving(make, max_connections=1)
        first, second = (port.factory for port in hosted.ports)
        self.assertIsInstance(first, HostedFactory)
        connection = first.buildProtocol(None)
        hosted.limiter.connections.add(connection)
        second.buildProtocol(None)
        self.assertEqual(hosted.limiter.refused, {"max-connections": 1})
        hosted.limiter.connections.clear()

    def test_below_tls_the_factory_is_wrapped_once(self):
        context = ssl.CertificateOptions()
        ports = []

        def make(_):
            port = reactor.listenSSL(0, Factory(), context, interface="127.0.0.1")
            ports.append(port)
            ports.append(self.listen(port.factory))
            self.addCleanup(port.stopListening)
            return Service()

        self.serving(make)
        for port in ports:
            self.assertIsInstance(port.factory.wrappedFactory, HostedFactory)
            self.assertNotIsInstance(port.factory.wrappedFactory.inner, HostedFactory)

    def test_its_metrics_are_there_once_it_has_a_port(self):
        hosted = self.serving(lambda _: Service())
        self.assertIsNone(hosted.host.metric("evserve_connections"))
        self.listen()
        self.assertEqual(hosted.host.metric("evserve_connections"), 0)

    def test_the_factory_starts_and_stops_with_the_port(self):
        class Noted(Factory):
            startFactory = lambda _: self.happened.append("start")  # noqa: E731
            stopFactory = lambda _: self.happened.append("stop")  # noqa: E731

        factory = HostedFactory(None, Noted())
        factory.startFactory()
        factory.stopFactory()
        self.assertEqual(self.happened, ["start", "stop"])
