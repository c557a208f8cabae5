"""`twistd -n evserve fetch ...`: what it prints and writes."""

import json
import os
import re
from hashlib import sha256

from twisted.web.server import NOT_DONE_YET
from warcio.archiveiterator import ArchiveIterator

from tests.integration.commands import EVSERVE
from tests.integration.fetch_case import Case
from tests.integration.fetch_server import MB, Together


class OutputTests(Case):
    async def test_each_url_has_a_line_before_the_summary(self):
        url = self.site.url("/")
        out = await self.fetched(url)
        line, summary, heading, host = out.splitlines()
        self.assertEqual(line, f"{url} 5 bytes received, status 200")
        self.assertRegex(
            summary, r"^fetched 1 of 1 URLs, 5 B, in \d+\.\d\d s; sequential: \d+\.\d\d s"
        )
        self.assertTrue(heading.startswith("host"))
        self.assertTrue(host.startswith(f"127.0.0.1:{self.site.port}  "))

    async def test_slow_pages_are_fetched_concurrently(self):
        from twisted.internet import reactor

        def slow(request):
            reactor.callLater(0.5, together, request)
            return NOT_DONE_YET

        together = Together(4)
        paths = [f"/slow/{number}" for number in range(4)]
        self.site.answers.update(dict.fromkeys(paths, slow))
        out = await self.fetched("--no-robots", *map(self.site.url, paths))
        serial = re.search(r" s; sequential: (\S+) s", out)[1]
        self.assertGreaterEqual(float(serial), 2.0)

    async def test_closed_or_full_standard_error_costs_only_what_it_would_show(self):
        for script in ("exec 2>&-", "exec 2>/dev/full"):
            child = self.evserve_after(script, "fetch", self.site.url("/"), "-o", "-")
            self.assertEqual(await child.ended, 0, script)
            self.assertEqual(json.loads(child.out)["status_code"], 200)

    async def test_rows_have_the_results(self):
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

    async def test_standard_output_has_only_rows(self):
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

    async def test_a_reader_that_closes_the_pipe_causes_no_traceback(self):
        urls = [self.site.url(f"/{number}") for number in range(50)]
        child = self.run_command(
            "/bin/sh", "-c", '"$@" | head -n 1', "sh", *EVSERVE, "fetch", *urls
        )
        self.assertEqual(await child.ended, 0)
        self.assertEqual(len(child.out.splitlines()), 1)
        self.assertNotIn(b"Traceback", child.err)
