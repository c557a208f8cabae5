"""The command against the same hostile server: what rows and files contain."""

import json
from hashlib import sha256

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ServerEndpoint

from tests.http.hostile_server import CASES, DRIPPED, MIB, SILENT, hostile_factory
from tests.integration.commands import CommandCase
from tests.integration.test_fetch_memory import rss


# A run has one limit for all its URLs; a slow machine must not run into one that is not meant.
RUNS = {
    "silent": (SILENT, ("--idle-timeout", "0.7")),
    "dripped": (DRIPPED, ("--timeout", "1.5")),
    "others": (CASES.keys() - SILENT - DRIPPED, ()),
}


class HostileRowTests(CommandCase):
    maxDiff = None

    async def fetch_all(self, *words):
        """Return the rows by case, and the peak of a process's memory; paths are whole."""
        endpoint = TCP4ServerEndpoint(reactor, 0, backlog=200, interface="127.0.0.1")
        port = await endpoint.listen(hostile_factory(reactor))
        self.addCleanup(port.stopListening)
        origin = f"http://127.0.0.1:{port.getHost().port}/"
        rows = {}
        runs = [
            Deferred.fromCoroutine(self.fetch_some(each, origin, words, rows)) for each in RUNS
        ]
        return rows, max(await gatherResults(runs, consumeErrors=True))

    async def fetch_some(self, name, origin, words, rows):
        """Carry out one of RUNS; return the peak of its memory."""
        cases, limit = RUNS[name]
        folder = self.folder / name
        folder.mkdir()
        child = self.evserve(
            *("fetch", "-i", "-", "-o", "rows", "--no-robots", "--retries", "0"),
            *("--per-origin", "200", "--concurrency", "200", "--max-size", str(64 * MIB)),
            *("--connect-timeout", "120", "--idle-timeout", "120", "--timeout", "120"),
            *(*limit, *words),
            folder=folder,
        )
        child.transport.write("".join(f"{origin}{each}\n" for each in cases).encode())
        await child.until(lambda: child.out.count(b"\n") == len(cases))
        peak = rss(child.transport.pid)
        child.transport.closeStdin()
        self.assertEqual(await child.ended, 1, child.err.decode())
        self.assertNotIn(b"Traceback", child.err)
        for row in map(json.loads, (folder / "rows").read_text().splitlines()):
            if row.get("path"):
                row["path"] = folder / row["path"]
            rows[row["url"].removeprefix(origin)] = row
        return peak

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
        self.assertLess(max(row["elapsed"] for row in rows.values()), 60)

    async def test_every_saved_file_is_correct(self):
        rows, peak = await self.fetch_all("--save", "files", "--journal", "journal")
        files = {path for path in self.folder.glob("*/files/**/*") if path.is_file()}
        whole = {path for path in files if ".part" not in path.name}
        named = {row["path"] for row in rows.values() if row.get("path")}
        self.assertEqual(whole, named)
        for row in rows.values():
            if row.get("path"):
                body = row["path"].read_bytes()
                self.assertEqual(row["sha256"], sha256(body).hexdigest())
                self.assertIn(body, {case.right for case in CASES.values()})
        self.assertLess(peak, 100 * MIB)
