"""The founding crawlers, side by side on the same slow pages."""

import re

from twisted.trial.unittest import TestCase
from twisted.web.server import NOT_DONE_YET

from tests.integration.fetch_server import WebSite
from tests.integration.processes import run_example


PAGES = 5
WAIT = 0.4  # seconds that each page takes


class CrawlerTests(TestCase):
    def setUp(self):
        from twisted.internet import reactor

        def slow(request):
            request.write(b"x" * 1000)
            reactor.callLater(WAIT, request.finish)
            return NOT_DONE_YET

        self.site = WebSite(self)
        self.urls = [self.site.url(f"/{number}") for number in range(PAGES)]
        self.site.answers.update({f"/{number}": slow for number in range(PAGES)})

    async def crawl(self, name):
        """Return the seconds that a crawler took."""
        child = run_example(self, f"crawlers/{name}.py", *self.urls)
        self.assertEqual(await child.ended, 0, child.err.decode())
        out = child.out.decode()
        for url in self.urls:
            self.assertIn(f"{url} 1000 bytes received, status 200", out)
        return float(re.search(r": (\d+\.\d+) s$", out.strip())[1])

    async def test_the_serial_crawler_waits_for_every_page(self):
        self.assertGreater(await self.crawl("serial"), PAGES * WAIT)

    async def test_the_gevent_crawler_takes_the_time_of_the_slowest(self):
        self.assertLess(await self.crawl("with_gevent"), 3 * WAIT)

    async def test_the_select_loop_takes_the_time_of_the_slowest(self):
        self.assertLess(await self.crawl("select_loop"), 3 * WAIT)

    async def test_the_evserve_crawler_takes_the_time_of_the_slowest(self):
        self.assertLess(await self.crawl("with_evserve"), 3 * WAIT)
