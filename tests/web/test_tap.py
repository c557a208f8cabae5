"""The service `web` is Twisted's with a fast site."""

from pathlib import Path

from twisted.application.service import IService
from twisted.plugins.evserve_web import web
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase
from twisted.web import static, tap
from twisted.web.server import Request, Site
from zope.interface.verify import verifyObject

from evserve.plugin import load
from evserve.web.channel import FastChannel
from evserve.web.request import FastRequest
from evserve.web.tap import Options, makeService


LISTEN = "tcp:0:interface=127.0.0.1"


class TapTests(SynchronousTestCase):
    def make(self, *words):
        """Return the service of a command line, and the factories of its ports."""
        options = Options()
        options.parseOptions(list(words))
        service = makeService(options)
        self.assertTrue(verifyObject(IService, service))
        return service, [port.factory for port in service]

    def test_the_site_is_a_fast_one(self):
        _, (site,) = self.make("--path", ".", "--listen", LISTEN)
        self.assertEqual((site.protocol, site.requestFactory), (FastChannel, FastRequest))
        self.assertIsInstance(site.resource, static.File)

    def test_all_ports_have_one_site(self):
        _, (one, two) = self.make("--listen", LISTEN, "--listen", "unix:x")
        self.assertIs(one, two)
        self.assertIs(one.protocol, FastChannel)

    def test_the_stock_channel_can_be_chosen(self):
        _, (site,) = self.make("--path", ".", "--stock-http")
        self.assertEqual((site.protocol.__func__, site.requestFactory), (Site.protocol, Request))
        self.assertNotIn("log", vars(site))

    def test_a_personal_server_speaks_no_http(self):
        _, (factory,) = self.make("--personal", "--listen", LISTEN)
        self.assertNotIsInstance(factory, Site)

    def test_options_are_those_of_twisted_and_one_more(self):
        own, twisteds = Options(), tap.Options()
        self.assertEqual(own.longOpt, sorted(own.longOpt, key=own.longOpt.index))
        more = set(own.longOpt) - set(twisteds.longOpt)
        self.assertEqual((more, set(twisteds.longOpt) - set(own.longOpt)), ({"stock-http"}, set()))
        self.assertRaises(UsageError, self.make, "--mime-type", "a/b")

    def test_what_twisted_sets_is_set(self):
        folder = Path(self.mktemp())
        _, (site,) = self.make(
            *("--path", str(folder), "--index", "a", "--index", "b", "--display-tracebacks"),
            *("--logfile", str(folder / "log")),
        )
        self.assertEqual(site.resource.indexNames, ["a", "b"])
        self.assertTrue(site.displayTracebacks)
        self.assertEqual(site.logPath, str(folder.absolute() / "log"))


class PluginTests(SynchronousTestCase):
    def test_it_stands_for_twisteds(self):
        self.assertEqual((web.name, web.replaces), ("web", "twisted.web.tap"))
        self.assertIs(load(web).options, Options)
