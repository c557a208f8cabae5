"""`twistd -n evserve fetch ...`: outputs that exist already, are pipes, or are in use."""

import contextlib
import os

from warcio.archiveiterator import ArchiveIterator

from tests.integration.fetch_case import Case
from tests.integration.fetch_server import MB, Slowly


class KnownTests(Case):
    """Files that exist before a journal has an entry for them."""

    async def test_a_new_journal_appends_to_existing_outputs(self):
        first, second = self.site.url("/"), self.site.url("/2")
        self.site.answers["/2"] = b"two"
        words = ("-o", "rows.jsonl", "--warc", "x.warc.gz")
        await self.fetched(first, *words)
        for _ in range(2):
            await self.fetched(second, *words, "--journal", "journal")
        self.assertEqual([row["url"] for row in self.rows()], [first, second])
        await self.check_archive(self.folder / "x.warc.gz")
        with (self.folder / "x.warc.gz").open("rb") as stream:
            urls = [
                record.rec_headers.get_header("WARC-Target-URI")
                for record in ArchiveIterator(stream)
                if record.rec_type == "response"
            ]
        self.assertEqual(urls, [first, second])

    async def test_without_a_journal_outputs_are_truncated(self):
        words = ("-o", "rows.jsonl", "--warc", "x.warc")
        for _ in range(2):
            await self.fetched(self.site.url("/"), *words)
        self.assertEqual(len(self.rows()), 1)

    async def test_a_shortened_archive_continues_and_another_file_is_refused(self):
        words = ("--warc", "x.warc", "--journal", "journal")
        await self.fetched(self.site.url("/"), *words)
        path = self.folder / "x.warc"
        os.truncate(path, path.stat().st_size - 100)
        self.site.answers["/2"] = b"two"
        await self.fetched(self.site.url("/2"), *words)
        await self.check_archive(path)
        letter = self.write("y.warc", "a letter")
        what = "no WARC record at byte 0, so none can be added"
        await self.check_error(
            ["fetch", "http://a/", "--warc", "y.warc", "--journal", "journal"],
            f"fetch: {what}: y.warc",
        )
        self.assertEqual(letter.read_text(), "a letter")


class PipeTests(Case):
    def setUp(self):
        super().setUp()
        self.pipe = self.folder / "pipe"
        os.mkfifo(self.pipe)
        self.line = b"evserve: pipe: waiting for a reader of this pipe\n"

    async def test_a_pipe_without_a_reader_is_waited_for_with_a_message(self):
        child = self.fetch(self.site.url("/"), "-o", "pipe")
        await child.until(lambda: self.line in child.err)
        reader = self.run_command("/bin/cat", self.pipe)
        self.assertEqual((await child.ended, await reader.ended), (0, 0))
        self.assertEqual(reader.out.count(b'"status_code": 200'), 1)

    async def test_ctrl_c_ends_the_wait(self):
        for signal in ("INT", "TERM"):
            child = self.fetch(self.site.url("/"), "-o", "pipe")
            await child.until(lambda child=child: self.line in child.err)
            self.assertNotEqual(await child.stop(signal), 0)
            self.assertEqual(child.err, self.line)

    async def test_a_pipe_instead_of_a_file_is_refused_without_waiting(self):
        for option in ("--warc", "--journal"):
            words = ["fetch", "http://a/", option, "pipe"]
            await self.check_error(words, "fetch: it must be a file: pipe")


class ClaimTests(Case):
    """Two outputs or two runs that write to the same file or folder."""

    async def test_one_file_under_two_names_is_refused(self):
        self.write("rows", "")
        (self.folder / "link").hardlink_to(self.folder / "rows")
        for option in ("--warc", "--journal"):
            words = ["fetch", "http://a/", "-o", "rows", option, "link"]
            name = "link" if option == "--warc" else "rows"
            await self.check_error(words, f"fetch: already being written to: {name}")

    async def test_two_runs_do_not_write_to_one_file(self):
        self.site.answers["/big"] = Slowly(bytes(MB), first=1000)
        child = self.fetch(self.site.url("/big"), "-o", "rows", "--warc", "x.warc")
        await child.until(lambda: b" serves " in child.err)
        for option, name in (("-o", "rows"), ("--warc", "x.warc"), ("--journal", "rows")):
            words = ["fetch", "http://a/", option, name]
            await self.check_error(words, f"fetch: already being written to: {name}")
        await child.stop("INT")

    async def are_under_way(self, count):
        """Wait until that many downloads are on the disk, half of each."""
        from twisted.internet import reactor
        from twisted.internet.task import deferLater

        def sizes():
            for path in self.folder.rglob("*.part"):
                with contextlib.suppress(FileNotFoundError):
                    yield path.stat().st_size

        while sum(size > MB for size in sizes()) != count:
            await deferLater(reactor, 0.01)

    async def test_two_runs_may_save_to_one_folder(self):
        body = os.urandom(3 * MB)
        big = self.site.answers["/big"] = Slowly(body, first=2 * MB)
        first = self.fetch(self.site.url("/big"), "--save", "files")
        await self.are_under_way(1)
        big.first = None
        await self.fetched(self.site.url("/big"), "--save", "files", "-o", "rows.jsonl")
        self.assertEqual(big.ranges, [None, None])
        self.assertEqual((self.folder / self.rows()[0]["path"]).read_bytes(), body)
        await self.are_under_way(1)
        self.assertEqual(list(self.folder.rglob(".evserve-parts-*")), [])
        await first.stop("KILL")
        self.assertEqual(len(list(self.folder.rglob("*.part*"))), 2)
        await self.fetched(self.site.url("/big"), "--save", "files", "-o", "rows.jsonl")
        self.assertEqual((self.folder / self.rows()[0]["path"]).read_bytes(), body)
        self.assertIsNotNone(big.ranges[2])

    async def test_leftovers_of_a_killed_second_run_are_removed(self):
        big = self.site.answers["/big"] = Slowly(os.urandom(3 * MB), first=2 * MB)
        first = self.fetch(self.site.url("/big"), "--save", "files")
        await self.are_under_way(1)
        big.first = 2 * MB
        second = self.fetch(self.site.url("/big"), "--save", "files")
        await self.are_under_way(2)
        await second.stop("KILL")
        await first.stop("INT")
        self.assertEqual(len(list(self.folder.rglob(".evserve-parts-*/*.part"))), 1)
        big.first = None
        await self.fetched(self.site.url("/big"), "--save", "files")
        self.assertEqual(list(self.folder.rglob("*.part*")), [])
