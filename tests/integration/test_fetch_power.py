"""Power cuts: the order in which a fetch writes, syncs and reports."""

from itertools import groupby

from evserve.events import Depth, open_queue
from tests.integration.commands import CommandCase
from tests.integration.fetch_server import WebSite
from tests.integration.queue_server import compile_shim


class OrderTests(CommandCase):
    """The calls, as they were recorded; files that fetch itself does not promise are left out."""

    def setUp(self):
        super().setUp()
        self.site = WebSite(self)
        self.log = self.folder / "log"
        self.files = self.folder / "work"
        self.files.mkdir()
        self.env = {
            "LD_PRELOAD": str(compile_shim(self.folder)),
            "SHIM_LOG": str(self.log),
            "SHIM_FILES": f"{self.files}/",
        }

    def fetch(self, *words):
        return self.evserve("fetch", "--no-robots", *words, folder=self.files, env=self.env)

    def happened(self, *kinds):
        lines = [line.split(" ", 1) for line in self.log.read_text().splitlines()]
        return [f"{kind} {name.split('-')[0]}".strip() for kind, name in lines if kind in kinds]

    async def test_everything_in_the_journal_is_synced(self):
        names = ["one", "two", "three"]
        child = self.fetch(
            "-i", "-", "-o", "rows", "--save", "saved", "--warc", "x.warc", "--journal", "journal"
        )
        for count, name in enumerate(names, 1):
            self.site.answers[f"/{name}"] = name.encode() * 1000
            child.transport.write(f"{self.site.url('/' + name)}\n".encode())
            await child.until(lambda count=count: child.out.count(b"\n") == count)
        child.transport.closeStdin()
        self.assertEqual(await child.ended, 0, child.err.decode())
        told = [each for each, _ in groupby(self.happened("write", "rename", "sync"))]
        for name in names:
            begin = told.index(f"write {name}")
            named = told.index(f"rename {name}")
            row = told.index("write rows", named)
            says = told.index("write journal", row)
            self.assertIn(f"sync {name}", told[begin:named])  # before the file has its name
            archived = told.index("write x.warc", begin)
            self.assertIn("sync x.warc", told[archived:says])
            self.assertIn("sync rows", told[row:says])
            self.assertIn("sync 127.0.0.1_" + str(self.site.port), told[named:says])
            told = told[says + 1 :]
        self.assertIn("sync journal", told)

    async def test_a_run_and_its_folders_are_synced_before_its_first_row(self):
        self.site.answers["/one"] = b"one"
        outputs = ("-o", "rows", "--warc", "x.warc", "--journal", "journal")
        child = self.fetch(self.site.url("/one"), "--save", "new/deep/saved", *outputs)
        self.assertEqual(await child.ended, 0, child.err.decode())
        told = self.happened("write", "sync")
        known = told.index("sync journal")
        self.assertEqual(told[: known + 1], ["write journal", "sync journal"])
        says = told.index("write journal", known)
        for folder in ("new", "deep", "saved"):
            self.assertIn(f"sync {folder}", told[known:says])

    async def test_many_files_are_synced_at_once(self):
        self.site.answers.update({f"/{number}": b"x" for number in range(200)})
        urls = [self.site.url(f"/{number}") for number in range(200)]
        options = ("--journal", "journal", "--save", "saved", "--per-origin", "50")
        child = self.fetch(*options, *urls)
        self.assertEqual(await child.ended, 0, child.err.decode())
        self.assertIn("syncfs", {line.split()[0] for line in self.happened("syncfs")})
        self.assertLess(len(self.happened("sync", "syncfs")), 200)

    async def test_an_event_is_acknowledged_after_its_result_is_synced(self):
        from twisted.internet import reactor

        server = self.evserve("queue", "--port", "0", "--store", ":memory:")
        url = f"beanstalk://{await server.listening()}"
        queue = open_queue(url, reactor)
        self.addCleanup(queue.close)
        child = self.fetch(
            *("--queue", url, "-o", "rows", "--save", "saved", "--results-tube", "results"),
            "--allow-private",
        )
        for name in ("one", "two", "three"):
            self.site.answers[f"/{name}"] = b"x"
            await queue.put("fetch.url", self.site.url(f"/{name}").encode())
            await queue.ack(await queue.reserve(["results"]))
            while await queue.depth("fetch.url") != Depth():
                pass
        self.assertEqual(await child.stop(), 0)
        told = self.happened("write", "rename", "sync", "send")
        told = [line for line in told if not line.startswith("send GET")]
        for name in ("one", "two", "three"):
            named = told.index(f"rename {name}")
            self.assertIn(f"sync {name}", told[:named])
            row = told.index("write rows", named)
            acknowledged = next(
                number for number, line in enumerate(told) if line.startswith("send delete")
            )
            self.assertLess(row, acknowledged)
            self.assertIn("sync rows", told[row:acknowledged])
            put = [line.startswith(("send use", "send put")) for line in told[:acknowledged]]
            self.assertIn(True, put[told.index("sync rows", row) :])
            self.assertNotIn(True, put[: told.index("sync rows", row)])
            told = told[acknowledged + 1 :]

    async def test_a_disk_that_refuses_a_row_ends_the_run_without_an_entry(self):
        child = self.fetch("-o", "/dev/full", "--journal", "journal", self.site.url("/none"))
        self.assertEqual(await child.ended, 1)
        self.assertIn(b"No space left on device", child.err)
        self.assertNotIn(b'"url"', (self.files / "journal").read_bytes())
