"""`twistd -n evserve fetch ...`: sources and politeness."""

import gzip
import os
import re
import time
from email.utils import formatdate

from tests.integration.fetch_case import Case


class InputTests(Case):
    def setUp(self):
        super().setUp()
        self.paths = [f"/page/{number}" for number in range(5)]
        self.site.answers.update(dict.fromkeys(self.paths, b"page"))
        self.urls = list(map(self.site.url, self.paths))

    def assert_all_fetched_once(self):
        hits = {path: self.site.hits[path] for path in self.paths}
        self.assertEqual(hits, dict.fromkeys(self.paths, 1))

    async def test_comments_and_duplicates_of_a_file_are_skipped(self):
        self.write("urls.txt", "# pages\n\n" + "\n".join([*self.urls, *self.urls]))
        await self.fetched("-i", "urls.txt")
        self.assert_all_fetched_once()

    async def test_standard_input_is_read_as_it_arrives(self):
        child = self.fetch("-i", "-")
        child.transport.write(f"{self.urls[0]}\n".encode())
        await child.shows(self.urls[0].encode())  # before the input ends
        child.transport.write("\n".join(self.urls[1:]).encode())
        child.transport.closeStdin()
        self.assertEqual(await child.ended, 0)
        self.assert_all_fetched_once()

    async def test_a_named_pipe_is_read_as_it_arrives(self):
        os.mkfifo(self.folder / "pipe")
        child = self.fetch("-i", "pipe")
        await child.until(lambda: b" serves " in child.err)  # although the pipe has no writer yet
        with (self.folder / "pipe").open("w", buffering=1) as pipe:
            pipe.write(f"{self.urls[0]}\n")
            await child.shows(self.urls[0].encode())  # before the input ends
            pipe.write("\n".join(self.urls[1:]))
        self.assertEqual(await child.ended, 0)
        self.assert_all_fetched_once()

    async def test_ctrl_c_ends_the_wait_for_a_writer(self):
        os.mkfifo(self.folder / "pipe")
        child = self.fetch("-i", "pipe")
        await child.until(lambda: b" serves " in child.err)
        self.assertEqual(await child.stop("INT"), 1)
        self.assertNotIn(b"Traceback", child.err)

    async def test_all_pages_of_a_sitemap_index_are_fetched(self):
        def sitemap(kind, urls):
            items = "".join(f"<{kind}><loc>{url}</loc></{kind}>" for url in urls)
            root = {"url": "urlset", "sitemap": "sitemapindex"}[kind]
            space = "http://www.sitemaps.org/schemas/sitemap/0.9"
            return f'<?xml version="1.0"?><{root} xmlns="{space}">{items}</{root}>'.encode()

        parts = [self.site.url(path) for path in ("/1.xml", "/2.xml.gz", "/3.txt.gz")]
        self.site.answers["/index.xml"] = sitemap("sitemap", parts)
        self.site.answers["/1.xml"] = sitemap("url", self.urls[:2])
        self.site.answers["/2.xml.gz"] = gzip.compress(sitemap("url", self.urls[2:4]))
        self.site.answers["/3.txt.gz"] = gzip.compress("\r\n".join(self.urls[4:]).encode())
        await self.fetched("--sitemap", self.site.url("/index.xml"))
        self.assert_all_fetched_once()

    async def test_an_invalid_sitemap_fails_the_run(self):
        out = await self.fetched("--sitemap", self.site.url("/"), status=1)
        self.assertIn("failed: SitemapFailed: neither XML", out)

    async def test_options_may_stand_after_urls(self):
        await self.fetched(*self.urls, "--retries", "0", "-o", "rows.jsonl")
        self.assertEqual(len(self.rows()), 5)

    async def test_usage_errors_are_one_line(self):
        say = "fetch: nothing to fetch (give URLs, -i FILE, --sitemap or --queue)"
        await self.check_rows(
            [
                (["fetch"], say),
                (["fetch", "-i", "."], "fetch: Is a directory: ."),
                (["fetch", "-i", "none"], "fetch: No such file or directory: none"),
                (
                    ["fetch", "http://a/", "--retries", "x"],
                    "fetch: --retries 'x': not a whole number up to 999999999",
                ),
                (
                    ["fetch", "http://a/", "--results-tube", "x"],
                    "fetch: --results-tube: needs --queue",
                ),
                (
                    ["fetch", "http://a/", "--save", "/dev/null"],
                    "fetch: Not a directory: /dev/null",
                ),
                (["fetch", "http://a/", "-o", "no/x"], "fetch: No such file or directory: no/x"),
            ],
            self.check_error,
        )


class PolitenessTests(Case):
    async def test_robots_txt_is_obeyed_without_no_robots(self):
        self.site.answers["/robots.txt"] = b"User-agent: *\nDisallow: /private\n"
        self.site.answers["/private"] = b"secret"
        out = await self.fetched(self.site.url("/"), self.site.url("/private"), status=1)
        self.assertIn("/private failed: RobotsDenied", out)
        self.assertEqual((self.site.hits["/robots.txt"], self.site.hits["/private"]), (1, 0))
        await self.fetched(self.site.url("/private"), "--no-robots")
        self.assertEqual((self.site.hits["/robots.txt"], self.site.hits["/private"]), (1, 1))

    async def test_robots_txt_is_obeyed_for_the_user_agent(self):
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

    async def test_requests_are_a_delay_apart(self):
        self.site.answers["/t"] = b""
        urls = [self.site.url(f"/t?{number}") for number in range(3)]
        out = await self.fetched("--no-robots", "--delay", "0.5", *urls)
        self.assertEqual(self.site.hits["/t"], 3)
        # By fetch's own clock: a slow machine may answer two requests at once.
        self.assertGreaterEqual(float(re.search(r", in (\S+) s", out)[1]), 1.0)
