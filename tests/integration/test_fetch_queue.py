"""`fetch --queue`: events in, results out."""

import json

from twisted.web.server import NOT_DONE_YET

from evserve.events import Depth, open_queue
from tests.integration.fetch_case import Case


class QueueTests(Case):
    async def queue(self):
        from twisted.internet import reactor

        server = self.evserve("queue", "--port", "0", "--store", ":memory:")
        url = f"beanstalk://{await server.listening()}"
        queue = open_queue(url, reactor)
        self.addCleanup(queue.close)
        return url, queue

    async def test_events_are_fetched_and_acknowledged(self):
        url, queue = await self.queue()
        request = {"url": self.site.url("/"), "headers": {"X-Who": "me"}}
        await queue.put("fetch.url", self.site.url("/?1").encode())
        await queue.put("fetch.url", json.dumps(request).encode())
        child = self.fetch(
            *("--queue", url, "--results-tube", "results", "-o", "rows.jsonl", "--allow-private")
        )
        results = []
        for _ in range(2):
            event = await queue.reserve(["results"])
            results.append(json.loads(event.body))
            await queue.ack(event)
        self.assertEqual({result["content_length"] for result in results}, {5})
        self.assertEqual(len(self.rows()), 2)
        self.assertIn("me", [each.getHeader("x-who") for each in self.site.requests])
        self.assertEqual(await child.stop(), 0)
        self.assertNotIn(b"Traceback", child.err)
        self.assertEqual(await queue.depth("fetch.url"), Depth())

    async def test_a_restart_keeps_the_results_of_acknowledged_events(self):
        url, queue = await self.queue()
        outputs = ("-o", "rows.jsonl", "--warc", "x.warc.gz", "--results-tube", "results")
        for number in range(2):
            child = self.fetch("--queue", url, *outputs, "--allow-private", "--no-robots")
            await queue.put("fetch.url", self.site.url(f"/?{number}").encode())
            await queue.ack(await queue.reserve(["results"]))
            while await queue.depth("fetch.url") != Depth():
                pass
            await child.stop("KILL" if number == 0 else "TERM")
        self.assertEqual(
            [row["url"] for row in self.rows()], [self.site.url(f"/?{n}") for n in range(2)]
        )
        await self.check_archive(self.folder / "x.warc.gz")

    async def test_private_addresses_are_refused_and_invalid_requests_are_buried(self):
        url, queue = await self.queue()
        await queue.put("fetch.url", self.site.url("/").encode())
        await queue.put("fetch.url", b'{"uri": "http://a/"}')
        child = self.fetch("--queue", url, "--results-tube", "results")
        event = await queue.reserve(["results"])
        self.assertIn("PrivateAddress", json.loads(event.body)["error"])
        error = await queue.reserve(["evserve.errors"])
        self.assertIn("unknown key 'uri'", json.loads(error.body)["reason"])
        self.assertEqual(sum(self.site.hits.values()), 0)
        while (await queue.depth("fetch.url")).buried != 1:  # the record comes first
            pass
        self.assertEqual(await child.stop(), 0)

    async def test_an_unfinished_event_is_given_back_when_the_service_stops(self):
        url, queue = await self.queue()
        self.site.answers["/never"] = lambda _: NOT_DONE_YET
        await queue.put("fetch.url", self.site.url("/never").encode())
        child = self.fetch("--queue", url, "--allow-private", "--no-robots", "-o", "rows.jsonl")
        await child.until(lambda: b" serves " in child.err)
        while not self.site.hits["/never"]:
            await queue.depth("fetch.url")
        self.assertEqual(await child.stop(), 0)
        event = await queue.reserve(["fetch.url"], 10)
        self.assertEqual(event.body, self.site.url("/never").encode())
        self.assertEqual(self.rows(), [])
