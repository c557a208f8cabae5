"""The echo service: its options and how they are wired."""

import os
import subprocess
import sys

from twisted.application.service import IService
from twisted.internet.testing import StringTransport
from twisted.plugin import IPlugin
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from evserve.echo.console import ConsoleService
from evserve.echo.datagrams import DatagramService
from evserve.echo.service import Options, makeService
from evserve.host.options import with_listening_options
from evserve.interfaces import IServicePlugin
from evserve.testing import MemoryHost


def parsed(*words):
    options = with_listening_options(Options)()
    options.parseOptions(words)
    return options


class OptionsTests(SynchronousTestCase):
    def test_nothing_is_changed_unless_asked(self):
        options = parsed()
        self.assertEqual((options["transform"], options["suffix"]), ("none", None))
        self.assertEqual((options["delay"], options["udp"], options["console"]), (0.0, 0, 0))

    def refusal(self, *words):
        return str(self.assertRaises(UsageError, parsed, *words))

    def test_an_unknown_transform_is_refused_with_the_known_ones(self):
        self.assertIn("none or upper", self.refusal("--transform", "shout"))

    def test_a_delay_is_a_finite_number_of_seconds(self):
        for text in ("-1", "nan", "inf", "soon", ""):
            self.assertIn("not a number of seconds", self.refusal("--delay", text))
        self.assertEqual(parsed("--delay", "0.5")["delay"], 0.5)

    def test_udp_needs_a_port(self):
        self.assertIn("--udp needs --port", self.refusal("--udp", "--listen", "unix:x"))
        self.assertEqual(parsed("--udp", "--listen", "unix:x", "--port", "0")["port"], 0)


class MakeServiceTests(SynchronousTestCase):
    def make(self, *words):
        self.host = MemoryHost()
        service = makeService(parsed(*words), self.host)
        verifyObject(IService, service)
        return service

    def echo_of(self, data):
        transport = StringTransport()
        protocol = self.host.listeners[-1].factory.buildProtocol(None)
        protocol.makeConnection(transport)
        protocol.dataReceived(data)
        return transport

    def test_the_host_listens_for_the_streams(self):
        self.make()
        self.assertEqual(self.echo_of(b"hi").value(), b"hi")

    def test_transform_and_suffix_reach_the_streams(self):
        self.make("--transform", "upper", "--suffix", " \N{BELL}")
        self.assertEqual(self.echo_of(b"hi\n").value(), "HI \N{BELL}\n".encode())

    def test_the_delay_reaches_the_streams_and_is_measured(self):
        self.make("--delay", "2")
        transport = self.echo_of(b"hi")
        self.assertGreater(self.host.metrics.get_sample_value("evserve_delayed_bytes"), 2)
        self.host.reactor.advance(2)
        self.assertEqual(transport.value(), b"hi")

    def test_udp_and_console_are_services_beside_the_streams(self):
        null = os.open(os.devnull, os.O_RDWR)
        self.addCleanup(os.close, null)
        for name in ("stdin", "stdout"):
            self.patch(sys, name, os.fdopen(null, closefd=False))
        kinds = [type(each) for each in self.make("--udp", "--port", "0", "--console")]
        self.assertEqual(kinds[1:], [DatagramService, ConsoleService])

    def test_without_a_port_udp_takes_the_default_port_too(self):
        (_, datagrams) = self.make("--udp")
        self.assertEqual(datagrams._port, 9000)

    def test_a_standard_input_closed_from_the_start_has_no_descriptor(self):
        self.patch(sys, "stdin", None)
        (_, console) = self.make("--console")
        console.startService()
        self.assertEqual(self.host.failures, [])


class PluginTests(SynchronousTestCase):
    def test_the_plugin_names_this_service(self):
        from twisted.plugins.evserve_echo import echo

        verifyObject(IServicePlugin, echo)
        verifyObject(IPlugin, echo)
        self.assertIs(echo.load().options, Options)

    def test_importing_the_package_installs_no_reactor(self):
        program = (
            "import sys, evserve.echo.service; sys.exit('twisted.internet.reactor' in sys.modules)"
        )
        self.assertEqual(
            subprocess.run([sys.executable, "-c", program], check=False).returncode, 0
        )
