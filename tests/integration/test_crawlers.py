"""The founding crawlers, side by side on the same slow pages."""

import re

from twisted.trial.unittest import TestCase
from twisted.web.server import NOT_DONE_YET

from tests.integration.fetch_server import Together, WebSite
from tests.integration.processes import run_example
from tests.ports import free_port


PAGES = 5
PAGE = b"x" * 1000
WAIT = 0.1  # seconds that a slow page takes


class CrawlerTests(TestCase):
    def setUp(self):
        self.site = WebSite(self)
        self.paths = [f"/{number}" for number in range(PAGES)]
        self.urls = list(map(self.site.url, self.paths))

    async def crawl(self, name, page):
        """Check that a crawler gets all pages; return the seconds that it says it took."""
        self.site.answers.update(dict.fromkeys(self.paths, page))
        child = run_example(self, f"crawlers/{name}.py", *self.urls)
        self.assertEqual(await child.ended, 0, child.err.decode())
        out = child.out.decode()
        for url in self.urls:
            self.assertIn(f"{url} 1000 bytes received, status 200", out)
        return float(re.search(r": (\d+\.\d+) s$", out.strip())[1])

    async def test_the_serial_crawler_waits_for_every_page(self):
        from twisted.internet import reactor

        def slow(request):
            reactor.callLater(WAIT, Together(1, PAGE), request)
            return NOT_DONE_YET

        self.assertGreater(await self.crawl("serial", slow), PAGES * WAIT)

    async def test_the_gevent_crawler_waits_for_all_at_the_same_time(self):
        await self.crawl("with_gevent", Together(PAGES, PAGE))

    async def test_the_select_loop_waits_for_all_at_the_same_time(self):
        await self.crawl("select_loop", Together(PAGES, PAGE))

    async def test_one_bad_url_does_not_end_the_others(self):
        self.site.answers["/0"] = PAGE
        port = free_port()  # nothing listens there
        bad = [f"http://127.0.0.1:{port}/", f"https://127.0.0.1:{port}/", "nonsense"]
        for name in ("serial", "with_gevent", "select_loop"):
            child = run_example(self, f"crawlers/{name}.py", *bad, self.urls[0])
            self.assertEqual(await child.ended, 0, child.err.decode())
            lines = child.out.decode().splitlines()
            self.assertIn(f"{self.urls[0]} 1000 bytes received, status 200", lines)
            for url in bad:
                self.assertTrue(any(line.startswith(f"{url} ") for line in lines), lines)

    async def test_the_evserve_crawler_waits_for_all_at_the_same_time(self):
        await self.crawl("with_evserve", Together(PAGES, PAGE))
