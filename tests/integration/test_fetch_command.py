"""The fetch service as a process: `twistd -n evserve fetch ...`."""

import gzip
import json
import os
import re
import time
from email.utils import formatdate
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

from twisted.web.server import NOT_DONE_YET
from warcio.archiveiterator import ArchiveIterator

from evserve.events import Depth, open_queue
from tests.integration.commands import EVSERVE, CommandCase
from tests.integration.fetch_server import MB, Big, Slowly, WebSite
from tests.integration.processes import TWISTD, run_python


MILLION = Path(__file__).with_name("million.py")


class Case(CommandCase):
    def setUp(self):
        super().setUp()
        self.site = WebSite(self)
        self.site.answers["/"] = b"hello"

    def fetch(self, *words, **how):
        return self.evserve("fetch", *words, **how)

    async def fetched(self, *words, status=0):
        """Run to the end; return standard output."""
        child = self.fetch(*words)
        self.assertEqual(await child.ended, status, child.err.decode())
        self.assertNotIn(b"Traceback", child.err)
        return child.out.decode()

    async def check_archive(self, path):
        child = self.run_command(TWISTD.with_name("warcio"), "check", path)
        self.assertEqual(await child.ended, 0, child.out.decode())

    def rows(self, name="rows.jsonl"):
        return [json.loads(line) for line in (self.folder / name).read_text().splitlines()]


class OutputTests(Case):
    async def test_each_url_is_a_line_and_then_comes_the_summary(self):
        url = self.site.url("/")
        out = await self.fetched(url)
        line, summary, heading, host = out.splitlines()
        self.assertEqual(line, f"{url} 5 bytes received, status 200")
        self.assertRegex(
            summary, r"^fetched 1 of 1 URLs, 5 B, in \d+\.\d\d s; one after another: \d+\.\d\d s"
        )
        self.assertTrue(heading.startswith("host"))
        self.assertTrue(host.startswith(f"127.0.0.1:{self.site.port}  "))

    async def test_fetching_slow_pages_takes_the_time_of_the_slowest(self):
        from twisted.internet import reactor

        def slow(request):
            reactor.callLater(0.5, request.finish)
            return NOT_DONE_YET

        paths = [f"/slow/{number}" for number in range(4)]
        self.site.answers.update(dict.fromkeys(paths, slow))
        out = await self.fetched("--no-robots", *map(self.site.url, paths))
        wall, serial = re.search(r"in (\S+) s; one after another: (\S+) s", out).groups()
        self.assertGreater(float(serial), 2.0)
        self.assertLess(float(wall), 1.5)

    async def test_rows_hold_what_happened(self):
        self.site.answers["/r"] = lambda request: request.redirect(b"/") or b""
        urls = [self.site.url(path) for path in ("/", "/missing", "/r")]
        await self.fetched(*urls, "http://127.0.0.1:1/", "-o", "rows.jsonl", status=1)
        rows = {row["url"]: row for row in self.rows()}
        self.assertEqual(rows[urls[0]]["sha256"], sha256(b"hello").hexdigest())
        self.assertEqual(rows[urls[0]]["content_length"], 5)
        self.assertIsNone(rows[urls[0]]["error"])
        self.assertEqual(rows[urls[1]]["status_code"], 404)
        self.assertEqual(rows[urls[1]]["error"], "BadStatus: 404 Not Found")
        self.assertEqual(rows[urls[2]]["final_url"], urls[0])
        self.assertTrue(rows["http://127.0.0.1:1/"]["error"].startswith("ConnectFailed: "))
        self.assertEqual(rows["http://127.0.0.1:1/"]["tries"], 3)

    async def test_rows_on_standard_output_stand_alone(self):
        out = await self.fetched(self.site.url("/"), "-o", "-")
        self.assertEqual([json.loads(line)["status_code"] for line in out.splitlines()], [200])

    async def test_files_are_saved_with_the_right_bytes(self):
        body = os.urandom(MB)
        self.site.answers["/a/b.bin"] = body
        await self.fetched(self.site.url("/a/b.bin"), "--save", "files", "-o", "rows.jsonl")
        files = [path for path in (self.folder / "files").rglob("*") if path.is_file()]
        self.assertEqual([path.read_bytes() for path in files], [body])
        self.assertTrue(files[0].samefile(self.folder / self.rows()[0]["path"]))

    async def test_an_archive_passes_warcio_check(self):
        self.site.answers["/r"] = lambda request: request.redirect(b"/") or b""
        urls = [self.site.url(path) for path in ("/", "/r", "/missing")]
        await self.fetched(*urls, "--warc", "x.warc.gz", status=1)
        path = self.folder / "x.warc.gz"
        await self.check_archive(path)
        with path.open("rb") as stream:
            kinds = [record.rec_type for record in ArchiveIterator(stream)]
        self.assertEqual((kinds.count("response"), kinds.count("request")), (4, 4))

    async def test_a_reader_that_has_seen_enough_is_no_disaster(self):
        urls = [self.site.url(f"/{number}") for number in range(50)]
        child = self.run_command(
            "/bin/sh", "-c", '"$@" | head -n 1', "sh", *EVSERVE, "fetch", *urls
        )
        self.assertEqual(await child.ended, 0)
        self.assertEqual(len(child.out.splitlines()), 1)
        self.assertNotIn(b"Traceback", child.err)


class InputTests(Case):
    def setUp(self):
        super().setUp()
        self.paths = [f"/page/{number}" for number in range(5)]
        self.site.answers.update(dict.fromkeys(self.paths, b"page"))
        self.urls = list(map(self.site.url, self.paths))

    def assert_all_fetched_once(self):
        hits = {path: self.site.hits[path] for path in self.paths}
        self.assertEqual(hits, dict.fromkeys(self.paths, 1))

    async def test_a_file_may_hold_comments_and_the_same_url_twice(self):
        self.write("urls.txt", "# pages\n\n" + "\n".join([*self.urls, *self.urls]))
        await self.fetched("-i", "urls.txt")
        self.assert_all_fetched_once()

    async def test_standard_input_is_read_as_it_comes(self):
        child = self.fetch("-i", "-")
        child.transport.write(f"{self.urls[0]}\n".encode())
        await child.shows(self.urls[0].encode())  # before the input ends
        child.transport.write("\n".join(self.urls[1:]).encode())
        child.transport.closeStdin()
        self.assertEqual(await child.ended, 0)
        self.assert_all_fetched_once()

    async def test_a_sitemap_index_leads_to_all_pages(self):
        def sitemap(kind, urls):
            items = "".join(f"<{kind}><loc>{url}</loc></{kind}>" for url in urls)
            root = {"url": "urlset", "sitemap": "sitemapindex"}[kind]
            space = "http://www.sitemaps.org/schemas/sitemap/0.9"
            return f'<?xml version="1.0"?><{root} xmlns="{space}">{items}</{root}>'.encode()

        parts = [self.site.url("/1.xml"), self.site.url("/2.xml.gz")]
        self.site.answers["/index.xml"] = sitemap("sitemap", parts)
        self.site.answers["/1.xml"] = sitemap("url", self.urls[:2])
        self.site.answers["/2.xml.gz"] = gzip.compress(sitemap("url", self.urls[2:]))
        await self.fetched("--sitemap", self.site.url("/index.xml"))
        self.assert_all_fetched_once()

    async def test_a_sitemap_that_is_none_fails_the_run(self):
        out = await self.fetched("--sitemap", self.site.url("/"), status=1)
        self.assertIn("failed: SitemapFailed: not XML", out)

    async def test_options_may_stand_after_urls(self):
        await self.fetched(*self.urls, "--retries", "0", "-o", "rows.jsonl")
        self.assertEqual(len(self.rows()), 5)

    async def test_mistakes_are_one_line(self):
        say = "fetch: nothing to fetch: give URLs, -i FILE, --sitemap or --queue"
        await self.table(
            [
                (["fetch"], say),
                (["fetch", "-i", "none"], "fetch: No such file or directory: none"),
                (
                    ["fetch", "http://a/", "--retries", "x"],
                    "fetch: --retries 'x': not a whole number",
                ),
                (
                    ["fetch", "http://a/", "--results-tube", "x"],
                    "fetch: --results-tube needs --queue",
                ),
                (["fetch", "http://a/", "-o", "no/x"], "fetch: No such file or directory: no/x"),
            ],
            self.says,
        )


class PolitenessTests(Case):
    async def test_robots_are_obeyed_unless_told_otherwise(self):
        self.site.answers["/robots.txt"] = b"User-agent: *\nDisallow: /private\n"
        self.site.answers["/private"] = b"secret"
        out = await self.fetched(self.site.url("/"), self.site.url("/private"), status=1)
        self.assertIn("/private failed: RobotsDenied", out)
        self.assertEqual((self.site.hits["/robots.txt"], self.site.hits["/private"]), (1, 0))
        await self.fetched(self.site.url("/private"), "--no-robots")
        self.assertEqual((self.site.hits["/robots.txt"], self.site.hits["/private"]), (1, 1))

    async def test_the_user_agent_is_who_robots_txt_speaks_to(self):
        self.site.answers["/robots.txt"] = b"User-agent: mybot\nDisallow: /\n"
        await self.fetched(self.site.url("/"), "--user-agent", "mybot/1.0", status=1)
        await self.fetched(self.site.url("/"), "--user-agent", "other/1.0")
        self.assertEqual(self.site.requests[-1].getHeader("user-agent"), "other/1.0")

    async def test_retry_after_is_waited_for(self):
        def date():
            return formatdate(time.time() + 2, usegmt=True)

        for name, value in (("/s", lambda: "1"), ("/d", date)):
            asked = []

            def busy(request, asked=asked, value=value):
                asked.append(time.monotonic())
                if len(asked) > 1:
                    return b"now"
                request.setResponseCode(503)
                request.setHeader(b"Retry-After", value().encode())
                return b"later"

            self.site.answers[name] = busy
            await self.fetched(self.site.url(name), "-o", "rows.jsonl")
            self.assertGreater(asked[1] - asked[0], 0.95, name)
            self.assertEqual((self.rows()[0]["tries"], self.rows()[0]["status_code"]), (2, 200))

    async def test_the_delay_lies_between_requests(self):
        times = []
        self.site.answers["/t"] = lambda _: times.append(time.monotonic()) or b""
        urls = [self.site.url(f"/t?{number}") for number in range(3)]
        await self.fetched("--no-robots", "--delay", "0.3", *urls)
        gaps = [later - earlier for earlier, later in pairwise(times)]
        self.assertTrue(all(gap > 0.25 for gap in gaps), gaps)


class InterruptedTests(Case):
    timeout = 120

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

    async def part_of_big_is_on_disk(self):
        from twisted.internet import reactor
        from twisted.internet.task import deferLater

        while not any(
            path.stat().st_size >= 2 * MB - 65536 for path in self.folder.rglob("*.part")
        ):
            await deferLater(reactor, 0.01)

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

    async def test_after_kill_9_the_next_run_goes_on(self):
        words = self.words[:-2]
        await self.interrupt("KILL", *words)
        await self.check_second_run(words)
        first, second = self.big.ranges
        self.assertIsNone(first)
        self.assertGreater(int(second.decode()[6:-1]), MB)

    async def test_ctrl_c_ends_cleanly_and_the_next_run_goes_on(self):
        words = self.words[:-2]
        child, status = await self.interrupt("INT", *words)
        self.assertEqual(status, 1)
        self.assertIn(b"fetched 20 of 20 URLs", child.out)
        self.assertNotIn(b"Traceback", child.err)
        await self.check_second_run(words)

    async def test_an_archive_goes_on_too(self):
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


def rss(pid, key="VmHWM"):
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(re.search(rf"{key}:\s+(\d+) kB", status)[1]) * 1024


class MemoryTests(Case):
    timeout = 120

    async def test_200_mb_to_disk_need_8_mib_at_most(self):
        self.site.answers["/big"] = Big(200 * MB)
        child = self.fetch("-i", "-", "--save", "files", "-o", "rows.jsonl")
        child.transport.write(f"{self.site.url('/')}\n".encode())
        await child.shows(b"status 200")
        before = rss(child.transport.pid, "VmRSS")
        child.transport.write(f"{self.site.url('/big')}\n".encode())
        await child.shows(b"200000000 bytes received")
        after = rss(child.transport.pid)
        child.transport.closeStdin()
        self.assertEqual(await child.ended, 0)
        self.assertEqual(self.rows()[1]["sha256"], sha256(bytes(200 * MB)).hexdigest())
        self.assertLess(after - before, 8 * 1024 * 1024)

    async def test_a_million_urls_are_streamed(self):
        with (self.folder / "urls.txt").open("w") as lines:
            for number in range(1_000_000):
                lines.write(f"http://host{number % 50}.example/some/path/{number}.html\n")
        child = run_python(self, MILLION, self.folder / "urls.txt")
        self.assertEqual(await child.ended, 0, child.err.decode())
        rows, mib = child.out.split()
        self.assertEqual(int(rows), 1_000_000)
        # 19 of these are the table of URLs seen; the file alone has 42.
        self.assertLess(float(mib), 32.0)


class QueueTests(Case):
    timeout = 60

    async def queue(self):
        from twisted.internet import reactor

        server = self.evserve("queue", "--port", "0", "--store", ":memory:")
        url = f"beanstalk://{await server.listening()}"
        queue = open_queue(url, reactor)
        self.addCleanup(queue.close)
        return url, queue

    async def test_events_are_fetched_and_acknowledged(self):
        url, queue = await self.queue()
        order = {"url": self.site.url("/"), "headers": {"X-Who": "me"}}
        await queue.put("fetch.url", self.site.url("/?1").encode())
        await queue.put("fetch.url", json.dumps(order).encode())
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

    async def test_private_addresses_are_refused_and_nonsense_is_buried(self):
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

    async def test_what_is_not_done_at_the_end_is_given_back(self):
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
