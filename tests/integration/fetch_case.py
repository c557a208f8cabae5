"""The fetch service as a process, and a site to fetch from."""

import json

from tests.integration.commands import CommandCase
from tests.integration.fetch_server import WebSite
from tests.integration.processes import TWISTD


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
