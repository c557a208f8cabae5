"""The status page in a real browser, on a real server."""

import shutil
import tempfile
from pathlib import Path

from twisted.internet.task import LoopingCall
from twisted.trial.unittest import SkipTest, TestCase

from tests.integration.browser import CHROMIUM, start_browser
from tests.integration.processes import address_of, spawn
from tests.integration.stream_client import send


PLUGIN = """\
from evserve.plugin import ServicePlugin
depot = ServicePlugin("depot", "depot", "Publishes metrics of every kind.")
"""

SERVICE = """\
from prometheus_client import Counter, Gauge, Histogram
from twisted.application.internet import TimerService
from twisted.python.usage import Options


def makeService(options, host):
    depth = Gauge("depot_depth", "Depth.", ["shelf"], registry=host.metrics)
    puts = Counter("depot_puts", "Puts.", registry=host.metrics)
    wait = Histogram("depot_wait_seconds", "Wait.", buckets=(0.01, 0.02), registry=host.metrics)
    rows = Histogram("depot_rows", "Rows.", buckets=(1, 2), registry=host.metrics)

    def work():
        depth.labels("upper").set(1234)
        depth.labels("lower").set(7)
        puts.inc()
        wait.observe(0.015)
        rows.observe(1)

    service = TimerService(0.1, work)
    service.clock = host.reactor
    return service
"""

CONFIG = """\
[evserve]
admin = "tcp:0"
drain = 1000
[services.echo]
port = 0
delay = 900
[services.depot]
port = 0
"""


def text(selector):
    """Return the JavaScript expression for the text of an element, undefined if there is none."""
    return f"document.querySelector('{selector}')?.textContent"


class StatusPageTests(TestCase):
    async def setUp(self):
        if CHROMIUM is None:
            raise SkipTest("no chromium (apt-get install chromium)")
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        plugins = folder / "twisted" / "plugins"
        plugins.mkdir(parents=True)
        plugins.joinpath("depot_plugin.py").write_text(PLUGIN)
        folder.joinpath("depot.py").write_text(SERVICE)
        folder.joinpath("evserve.toml").write_text(CONFIG)
        self.child = spawn(self, "--config", "evserve.toml", folder=folder)
        self.admin = await address_of(self.child, "admin")
        self.browser = start_browser(self)

    async def open(self, **view):
        await self.browser.open(f"http://{self.admin}/", **view)

    async def shows(self, selector, *parts):
        """Wait until an element's text contains all of `parts`."""
        for part in parts:
            await self.browser.once(f"{text(selector)}?.includes('{part}')")

    async def test_it_shows_live_numbers_of_every_service(self):
        await self.open()
        await self.shows("#state", "serving")
        await self.shows("#process", str(self.child.transport.pid))
        echo = await address_of(self.child, "echo")
        await self.shows("[data-service=echo] p", f"Listens on tcp {echo}.")
        for count in (1, 2, 3):
            client = await send(self, echo, b"x" * 100)
            await self.shows("[data-service=echo] [data-metric=connections] .value", str(count))
        # Keep sending: a slow browser would miss a rate that lasts one second.
        sending = LoopingCall(client.transport.write, b"x" * 100)
        sending.start(0.1)
        self.addCleanup(sending.stop)
        await self.browser.once(
            "parseFloat(document.querySelector('[data-metric=received] .value').textContent) > 0"
        )

    async def test_it_draws_every_kind_of_metric_that_a_service_publishes(self):
        await self.open()
        await self.shows("[data-metric=depot_depth] ul", "upper1.23 k", "lower7")
        await self.shows("[data-metric=depot_puts] .value", "/s")
        await self.shows("[data-metric=depot_wait_seconds] ul", "p5015 ms", "p9919.9 ms")
        await self.shows("[data-metric=depot_rows] ul", "p501", "p991")  # a whole number
        described = "document.querySelector('[data-metric=depot_wait_seconds] svg').ariaLabel"
        await self.browser.once(f"{described}.startsWith('depot wait: p50 15 ms')")

    async def test_it_shows_a_drain_and_then_that_the_server_is_gone(self):
        waiting = await send(self, await address_of(self.child, "echo"), b"late")
        await self.open()
        await self.shows("[data-service=echo] [data-metric=connections] .value", "1")
        ended = self.child.stop()
        await self.shows("#state", "draining: 1 left")
        waiting.transport.abortConnection()
        self.assertEqual(await ended, 0)
        await self.shows("#state", "server gone since")

    async def test_it_follows_the_colour_scheme_and_fits_a_phone(self):
        await self.open(scheme="dark", width=360, height=740)
        await self.shows("[data-metric=depot_depth] ul", "upper")
        colours = "getComputedStyle(document.body)"
        await self.browser.once(f"{colours}.backgroundColor === 'rgb(17, 19, 22)'")
        await self.browser.once("document.documentElement.scrollWidth <= 360")
        picture = await self.browser.screenshot()
        self.assertTrue(picture.startswith(b"\x89PNG"))
