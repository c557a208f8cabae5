"""`--queue` refuses private addresses, behind names of the test's own as well."""

import json
import sys
from pathlib import Path

from evserve.events import open_queue
from tests.integration.commands import CommandCase
from tests.integration.fetch_proxy import Proxy, redirect
from tests.integration.fetch_server import WebSite


FAKE_DNS = Path(__file__).with_name("fake_dns.py")
INSIDE = {
    "v4.example": ["127.0.0.1"],
    "v6.example": ["::1"],
    "mapped.example": ["::ffff:127.0.0.1"],
    "nat64.example": ["64:ff9b::7f00:1"],
    "6to4.example": ["2002:7f00:1::1"],
    "teredo.example": ["2001:0:4136:e378:8000:63bf:80ff:fffe"],
    "metadata.example": ["169.254.169.254"],
    "under_score.example": ["127.0.0.1"],
    "two.example": ["10.0.0.1", "192.168.0.1"],
    "localhost": ["127.0.0.1"],
}
SPELLINGS = [
    *("127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001"),
    *("127.0.0.1.", "%31%32%37.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"),
    *("[::127.0.0.1]", "[64:ff9b::127.0.0.1]", "[64:ff9b:1::127.0.0.1]", "[2002:7f00:1::]"),
    *("0.0.0.0", "[::]", "①②⑦.0.0.1"),
]


class Case(CommandCase):
    def setUp(self):
        super().setUp()
        self.site = WebSite(self)
        self.site.answers["/"] = b"secret"

    async def start(self, *words, **environment):
        """Start a queue and a service that takes events from it."""
        from twisted.internet import reactor

        server = self.evserve("queue", "--port", "0", "--store", ":memory:")
        url = f"beanstalk://{await server.listening()}"
        self.queue = open_queue(url, reactor)
        self.addCleanup(self.queue.close)
        self.child = self.run_command(
            *(sys.executable, FAKE_DNS, json.dumps(INSIDE), "fetch", "--no-robots"),
            *("--retries", "0", "--queue", url, "--results-tube", "results", *words),
            env=environment,
        )

    async def results(self, urls):
        """Have URLs fetched; return their rows."""
        for url in urls:
            await self.queue.put("fetch.url", url.encode())
        rows = {}
        for _ in urls:
            event = await self.queue.reserve(["results"])
            row = json.loads(event.body)
            rows[row["url"]] = row
            await self.queue.ack(event)
        return rows

    async def assert_refused(self, urls):
        errors = {url: row["error"] for url, row in (await self.results(urls)).items()}
        self.assertEqual(errors.keys(), set(urls))
        let_through = {
            url: error
            for url, error in errors.items()
            if not (error or "").startswith("PrivateAddress: ")
        }
        self.assertEqual(let_through, {})
        self.assertEqual(sum(self.site.hits.values()), 0)
        self.assertEqual(await self.child.stop(), 0)


class RefusalTests(Case):
    async def test_every_spelling_of_a_private_address_is_refused(self):
        await self.start()
        await self.assert_refused([f"http://{host}:{self.site.port}/" for host in SPELLINGS])

    async def test_names_of_private_addresses_are_refused(self):
        await self.start()
        await self.assert_refused([f"http://{host}:{self.site.port}/" for host in INSIDE])

    async def test_private_addresses_are_refused_for_robots_txt_too(self):
        await self.start()
        await self.assert_refused([f"http://v4.example:{self.site.port}/robots.txt"])

    async def test_redirects_to_private_addresses_are_refused(self):
        """The first hop must be public, so a proxy plays the public Internet.

        It is asked for nothing that NO_PROXY exempts: that is connected to directly.
        """
        proxy = Proxy(self)
        exempt = ",".join([*INSIDE, "127.0.0.0/8", "::/0", "0.0.0.0/8"])
        await self.start("--proxy", proxy.place)
        await self.child.until(lambda: b"only the proxy can refuse" in self.child.err)
        await self.check_redirects(proxy, SPELLINGS)
        await self.start(http_proxy=proxy.place, no_proxy=exempt)
        await self.check_redirects(proxy, [*SPELLINGS, *INSIDE])

    async def check_redirects(self, proxy, hosts):
        """Each host is the target of one redirect, and of the last of three."""
        proxy.asked.clear()
        urls = []
        for number, host in enumerate(hosts):
            first = f"http://public.example/{number}"
            far = f"http://public.example/far/{number}"
            inside = f"http://{host}:{self.site.port}/"
            proxy.answers[first] = redirect(inside)
            proxy.answers[far] = redirect(f"http://other.example/far/{number}")
            proxy.answers[f"http://other.example/far/{number}"] = redirect(f"/again/{number}")
            proxy.answers[f"http://other.example/again/{number}"] = redirect(inside)
            urls += [first, far]
        await self.assert_refused(urls)
        asked = {target.split("/")[2] for _, target in proxy.asked}
        self.assertEqual(asked, {"public.example", "other.example"})


class AllowedTests(Case):
    async def test_allow_private_fetches_from_private_addresses(self):
        self.site.answers["/r"] = lambda request: (
            request.redirect(f"http://0x7f.1:{self.site.port}/".encode()) or b""
        )
        await self.start("--allow-private")
        hosts = ["127.1", "2130706433", "0x7f.1", "v4.example", "localhost"]
        urls = [f"http://{host}:{self.site.port}/" for host in hosts]
        urls.append(f"http://v4.example:{self.site.port}/r")
        rows = await self.results(urls)
        self.assertEqual({row["error"] for row in rows.values()}, {None})
        self.assertEqual({row["content_length"] for row in rows.values()}, {6})
        self.assertEqual(await self.child.stop(), 0)

    async def test_without_a_queue_private_addresses_are_fetched(self):
        child = self.evserve("fetch", "--no-robots", f"http://127.1:{self.site.port}/")
        self.assertEqual(await child.ended, 0)

    async def test_nonstandard_host_names_are_resolved(self):
        names = [
            "my_app",
            "r1---sn-a.example",
            "-a.example",
            "xn--n3h.example",
            "xn--bcher-kva.example",
        ]
        known = {name: ["127.0.0.1"] for name in names}
        names[3:] = "☃.example", "Bücher.example"
        urls = [f"http://{name}:{self.site.port}/" for name in names]
        child = self.run_command(
            *(sys.executable, FAKE_DNS, json.dumps(known), "fetch", "--no-robots", *urls)
        )
        self.assertEqual(await child.ended, 0, child.out)
        self.assertEqual(self.site.hits["/"], 5)
