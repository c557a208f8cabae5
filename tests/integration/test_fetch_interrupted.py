"""A run that is stopped or killed, and the next one, which resumes it."""

import os
from hashlib import sha256

from warcio.archiveiterator import ArchiveIterator

from tests.integration.fetch_case import Case
from tests.integration.fetch_server import MB, Slowly


class InterruptedTests(Case):
    def setUp(self):
        super().setUp()
        self.done = {f"/done/{number}": os.urandom(1000) for number in range(20)}
        self.site.answers.update(self.done)
        self.big = Slowly(os.urandom(3 * MB), first=2 * MB)
        self.site.answers["/big"] = self.big
        self.words = [
            *map(self.site.url, [*self.done, "/big"]),
            *("--journal", "journal", "--save", "files", "-o", "rows.jsonl"),
            *("--warc", "x.warc"),
        ]

    async def interrupt(self, signal, *words):
        """Stop a run that has everything but the end of /big."""
        child = self.fetch(*words)
        await child.until(lambda: child.out.count(b" bytes received") == len(self.done))
        await self.part_of_big_is_on_disk()
        return child, await child.stop(signal)

    async def pause(self):
        from twisted.internet import reactor
        from twisted.internet.task import deferLater

        await deferLater(reactor, 0.01)

    async def part_of_big_is_on_disk(self):
        while not any(
            path.stat().st_size >= 2 * MB - 65536 for path in self.folder.rglob("*.part")
        ):
            await self.pause()

    async def check_second_run(self, words):
        await self.fetched(*words)
        for path in self.done:
            self.assertEqual(self.site.hits[path], 1, path)
        rows = self.rows()
        self.assertEqual(len(rows), len(self.done) + 1)
        bodies = {**self.done, "/big": self.big.body}
        for row in rows:
            body = bodies[row["url"].removeprefix(self.site.origin)]
            self.assertEqual(row["sha256"], sha256(body).hexdigest())
            if "path" in row:
                self.assertEqual((self.folder / row["path"]).read_bytes(), body)
        self.assertEqual(list(self.folder.rglob("*.part*")), [])

    async def test_the_run_after_kill_9_resumes(self):
        words = self.words[:-2]
        await self.interrupt("KILL", *words)
        await self.check_second_run(words)
        first, second = self.big.ranges
        self.assertIsNone(first)
        self.assertGreater(int(second.decode()[6:-1]), MB)

    async def test_the_run_after_ctrl_c_resumes(self):
        words = self.words[:-2]
        child, status = await self.interrupt("INT", *words)
        self.assertEqual(status, 1)
        self.assertIn(b"fetched 20 of 20 URLs", child.out)
        self.assertNotIn(b"Traceback", child.err)
        await self.check_second_run(words)

    async def test_sigterm_and_a_second_ctrl_c_stop_as_ctrl_c_does(self):
        words = self.words[:-2]
        child, status = await self.interrupt("TERM", *words)
        self.assertEqual(status, 1)
        self.big.first = MB // 2  # of the MB that is missing
        child = self.fetch(*words)
        await child.until(lambda: b" serves " in child.err)
        while len(self.big.ranges) < 2:
            await self.pause()
        child.transport.signalProcess("INT")
        self.assertEqual(await child.stop("INT"), 1)
        self.assertNotIn(b"Traceback", child.err)
        await self.check_second_run(words)

    async def test_an_archive_is_resumed(self):
        child = self.fetch(*self.words)
        await child.until(lambda: child.out.count(b" bytes received") == len(self.done))
        await child.stop("KILL")
        await self.check_second_run(self.words)
        await self.check_archive(self.folder / "x.warc")
        with (self.folder / "x.warc").open("rb") as stream:
            urls = [
                record.rec_headers.get_header("WARC-Target-URI")
                for record in ArchiveIterator(stream)
                if record.rec_type == "response"
            ]
        self.assertEqual(len(set(urls)), 21)  # robots.txt is not archived
        self.assertEqual(self.big.ranges, [None, None])  # half a response is no record

    async def test_a_third_run_has_nothing_to_do(self):
        self.big.first = None
        await self.fetched(*self.words)
        hits = dict(self.site.hits)
        out = await self.fetched(*self.words)
        self.assertEqual(self.site.hits, hits)
        self.assertIn("21 URLs were done before", out)
