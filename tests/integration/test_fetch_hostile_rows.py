"""The same server that does everything wrong, through the command: what rows and files say."""

import json
from hashlib import sha256

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint

from tests.fetch.hostile import CASES, MIB, hostile_factory
from tests.integration.commands import CommandCase
from tests.integration.test_fetch_memory import rss


class HostileRowTests(CommandCase):
    maxDiff = None

    async def fetch_all(self, *words):
        """Return the rows by case, and the peak of the process's memory."""
        endpoint = TCP4ServerEndpoint(reactor, 0, backlog=200, interface="127.0.0.1")
        port = await endpoint.listen(hostile_factory(reactor))
        self.addCleanup(port.stopListening)
        child = self.evserve(
            *("fetch", "-i", "-", "-o", "rows", "--no-robots", "--retries", "0"),
            *("--per-origin", "200", "--concurrency", "200", "--connect-timeout", "1"),
            *("--idle-timeout", "0.7", "--timeout", "1.5", "--max-size", str(64 * MIB), *words),
        )
        origin = f"http://127.0.0.1:{port.getHost().port}/"
        child.transport.write("".join(f"{origin}{name}\n" for name in CASES).encode())
        await child.until(lambda: child.out.count(b"\n") == len(CASES))
        peak = rss(child.transport.pid)
        child.transport.closeStdin()
        self.assertEqual(await child.ended, 1, child.err.decode())
        self.assertNotIn(b"Traceback", child.err)
        rows = map(json.loads, (self.folder / "rows").read_text().splitlines())
        return {row["url"].removeprefix(origin): row for row in rows}, peak

    def check(self, name, row):
        """Return what is wrong with a row."""
        right = CASES[name].right
        if isinstance(right, str):
            said = (row["error"] or "").partition(":")[0]
            return None if said == right and row["sha256"] is None else (right, row)
        is_right = row["error"] is None and row["sha256"] == sha256(right).hexdigest()
        return None if is_right else (right, row)

    async def test_every_row_is_right_or_names_the_error(self):
        rows, peak = await self.fetch_all()
        self.assertEqual(rows.keys(), CASES.keys())
        wrong = {name: self.check(name, row) for name, row in rows.items()}
        self.assertEqual({name: each for name, each in wrong.items() if each}, {})
        self.assertLess(peak, 100 * MIB)
        self.assertLess(max(row["elapsed"] for row in rows.values()), 3)

    async def test_no_file_holds_anything_wrong(self):
        rows, peak = await self.fetch_all("--save", "files", "--journal", "journal")
        files = {path for path in (self.folder / "files").rglob("*") if path.is_file()}
        whole = {path for path in files if ".part" not in path.name}
        named = {self.folder / row["path"] for row in rows.values() if row.get("path")}
        self.assertEqual(whole, named)
        for row in rows.values():
            if row.get("path"):
                body = (self.folder / row["path"]).read_bytes()
                self.assertEqual(row["sha256"], sha256(body).hexdigest())
                self.assertIn(body, {case.right for case in CASES.values()})
        self.assertLess(peak, 100 * MIB)
