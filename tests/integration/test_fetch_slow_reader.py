"""A reader that pauses, as `less` does, delays nothing else and misses no line."""

import json

from twisted.internet.task import deferLater

from tests.integration.fetch_case import Case


LONG = "x" * 1500
COUNT = 400  # lines of that length are more than any pipe takes


class SlowReaderTests(Case):
    def setUp(self):
        super().setUp()
        self.site.answers.update({f"/{number}": b"body" for number in range(COUNT)})
        self.urls = [self.site.url(f"/{number}?{LONG}") for number in range(COUNT)]
        self.write("urls", "\n".join(self.urls))

    async def paused(self, *words):
        """Start a run whose output has no reader; return it when all URLs are requested."""
        from twisted.internet import reactor

        child = self.fetch("-i", "urls", "--no-robots", *words)
        child.transport.pauseProducing()
        while sum(self.site.hits.values()) < COUNT:
            await deferLater(reactor, 0.01)
        return child

    async def test_fetching_continues_and_no_line_is_lost(self):
        child = await self.paused()
        child.transport.resumeProducing()
        self.assertEqual(await child.ended, 0)
        *lines, summary, _, _ = child.out.decode().splitlines()
        expected = {f"{url} 4 bytes received, status 200" for url in self.urls}
        self.assertEqual((len(lines), set(lines)), (COUNT, expected))
        self.assertTrue(summary.startswith(f"fetched {COUNT} of {COUNT} URLs"))

    async def test_no_row_is_lost_and_all_are_in_the_journal(self):
        child = await self.paused("-o", "-", "--journal", "journal")
        child.transport.resumeProducing()
        self.assertEqual(await child.ended, 0)
        rows = [json.loads(line) for line in child.out.splitlines()]
        self.assertEqual({row["url"] for row in rows}, set(self.urls))
        journal = (self.folder / "journal").read_text()
        self.assertEqual(journal.count('"url"'), COUNT)

    async def test_ctrl_c_ends_the_run(self):
        child = await self.paused()
        child.stop("INT")
        self.assertEqual(await child.exited, 1)
        child.transport.resumeProducing()
        await child.ended
        self.assertNotIn(b"Traceback", child.err)

    async def test_urls_without_a_row_are_not_in_the_journal_after_ctrl_c(self):
        child = await self.paused("-o", "-", "--journal", "journal")
        child.stop("INT")
        self.assertEqual(await child.exited, 1)
        child.transport.resumeProducing()
        await child.ended
        journal = (self.folder / "journal").read_text().splitlines()
        done = {entry["url"] for entry in map(json.loads, journal) if "url" in entry}
        whole = child.out[: child.out.rfind(b"\n") + 1]
        written = {json.loads(line)["url"] for line in whole.splitlines()}
        self.assertLess(len(written), COUNT)
        self.assertLessEqual(done, written)
