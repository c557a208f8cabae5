"""WARC files, written from a network in memory and read by warcio."""

import gzip
import hashlib
import os
import re
import resource
import tempfile
from base64 import b32encode
from pathlib import Path
from types import SimpleNamespace

from twisted.internet.defer import Deferred, execute, fail
from twisted.trial.unittest import SynchronousTestCase
from warcio.archiveiterator import ArchiveIterator
from warcio.checker import Checker

from evserve.fetch.errors import error_text
from evserve.fetch.fetcher import Fetcher
from evserve.fetch.output import warc
from evserve.fetch.output.warc import WARCSink, complete_records_size
from evserve.fetch.policy import Policy, RetryPolicy
from evserve.fetch.testing import Page
from evserve.http.cookies import Cookies
from evserve.http.errors import TruncatedBody
from evserve.http.proxy import Proxies, named_proxy
from tests.fetch.memory_world import World, redirect
from tests.http.memory_network import HOST, Network


def at_once(function, *arguments):
    return execute(function, *arguments)


def assert_valid(case, path):
    class Command:
        inputs = (str(path),)
        verbose = False

    checker = Checker(Command())
    checker.process_all()
    case.assertFalse(checker.exit_value)


class WARCSinkTests(SynchronousTestCase):
    def setUp(self):
        self.folder = Path(self.mktemp())

    def archive(self, name, in_thread=at_once, **more):
        self.path = self.folder / name
        self.folder.mkdir(exist_ok=True)
        return WARCSink(self.path, in_thread, "testbot", **more)

    def records(self):
        with self.path.open("rb") as stream:
            return [
                (
                    record.rec_type,
                    record.rec_headers.get_header("WARC-Target-URI"),
                    record.content_stream().read(),
                )
                for record in ArchiveIterator(stream)
            ]

    def assert_valid(self):
        assert_valid(self, self.path)

    def test_requests_and_responses_are_recorded(self):
        for name in ("x.warc", "x.warc.gz"):
            archive = self.archive(name)
            world = World(
                {"http://a/": redirect("/x"), "http://a/x": Page(b"hello")}, sinks=[archive]
            )
            self.assertIsNone(world.fetch("http://a/").error)
            self.successResultOf(archive.close())
            self.assertEqual(
                [record for record in self.records() if record[0] == "response"],
                [("response", "http://a/", b""), ("response", "http://a/x", b"hello")],
            )
            self.assertEqual(
                [kind for kind, *_ in self.records()],
                ["warcinfo", "response", "request", "response", "request"],
            )
            self.assert_valid()

    def test_a_chunked_body_is_recorded_without_its_chunks(self):
        archive = self.archive("x.warc")
        page = Page(b"hello", headers=((b"Transfer-Encoding", b"chunked"),))
        World({"http://a/": page}, sinks=[archive]).fetch("http://a/")
        self.successResultOf(archive.close())
        self.assertIn(("response", "http://a/", b"hello"), self.records())

    def test_an_incomplete_response_is_not_recorded(self):
        archive = self.archive("x.warc")
        page = Page(b"half", error=TruncatedBody("cut"))
        World({"http://a/": page}, sinks=[archive]).fetch("http://a/")
        self.successResultOf(archive.close())
        self.assertEqual([kind for kind, *_ in self.records()], ["warcinfo"])

    def test_records_are_appended_after_the_last_complete_one(self):
        archive = self.archive("x.warc.gz")
        World({"http://a/": Page(b"one")}, sinks=[archive]).fetch("http://a/")
        end = archive.size
        self.successResultOf(archive.close())
        with self.path.open("ab") as stream:
            stream.write(b"\x1f\x8btorn")
        archive = self.archive("x.warc.gz", size=end)
        World({"http://a/2": Page(b"two")}, sinks=[archive]).fetch("http://a/2")
        self.successResultOf(archive.close())
        bodies = [body for kind, _, body in self.records() if kind == "response"]
        self.assertEqual(bodies, [b"one", b"two"])
        self.assert_valid()

    def test_the_result_waits_until_the_record_is_written(self):
        waiting = []

        def later(function, *arguments):
            waiting.append((function, arguments, Deferred()))
            return waiting[-1][2]

        archive = self.archive("x.warc", later)
        world = World({"http://a/": Page(b"one"), "http://b/": Page(b"two")}, sinks=[archive])
        world.start("http://a/", "http://b/")
        world.run(1)
        self.assertEqual((world.results, len(waiting)), ([], 1))
        for number in (0, 1):
            function, arguments, done = waiting[number]
            function(*arguments)
            done.callback(None)
            self.assertEqual(len(world.results), number + 1)

    def test_the_size_does_not_include_records_of_urls_without_a_result(self):
        written = []

        def later(function, *arguments):
            function(*arguments)
            written.append(Deferred())
            return written[-1]

        archive = self.archive("x.warc", later)
        world = World({"http://a/": Page(b"one"), "http://b/": Page(b"two")}, sinks=[archive])
        world.start("http://a/")
        self.assertEqual(archive.size, 0)
        written[0].callback(None)
        size = self.path.stat().st_size
        self.assertEqual((archive.size, len(world.results)), (size, 1))
        world.start("http://b/")
        self.assertGreater(self.path.stat().st_size, size)
        self.assertEqual((archive.size, len(world.results)), (size, 1))

    def test_a_device_is_refused(self):
        error = self.assertRaises(OSError, WARCSink, Path("/dev/full"), at_once, "testbot")
        self.assertEqual((error.strerror, error.filename), ("it must be a file", "/dev/full"))

    def test_a_pipe_is_refused_without_waiting(self):
        self.folder.mkdir()
        os.mkfifo(self.folder / "x.warc")
        error = self.assertRaises(OSError, self.archive, "x.warc")
        self.assertEqual((error.strerror, error.filename), ("it must be a file", str(self.path)))

    def test_an_archive_in_use_is_refused(self):
        archive = self.archive("x.warc")
        error = self.assertRaises(OSError, self.archive, "x.warc")
        self.assertEqual(error.strerror, "already being written to")
        self.successResultOf(archive.close())

    def test_a_run_without_records_writes_a_valid_archive(self):
        self.successResultOf(self.archive("x.warc").close())
        self.assertEqual([kind for kind, *_ in self.records()], ["warcinfo"])
        before = self.path.read_bytes()
        self.successResultOf(self.archive("x.warc", size=len(before)).close())
        self.assertEqual(self.path.read_bytes(), before)

    def test_closing_on_a_full_disk_raises_nothing(self):
        archive = self.archive("x.warc")

        def full(_):
            raise OSError(28, "No space left on device")

        archive._records._file = SimpleNamespace(
            write=full, seek=archive._file.seek, truncate=archive._file.truncate
        )
        result = World({"http://a/": Page(b"x")}, sinks=[archive]).fetch("http://a/")
        self.assertEqual(
            error_text(result.error), f"SaveFailed: No space left on device: {self.path}"
        )
        self.successResultOf(archive.close())
        self.assertEqual(self.path.read_bytes(), b"")
        self.assertTrue(archive._file.closed)

    def test_a_full_disk_fails_the_url(self):
        archive = self.archive("x.warc", lambda *_: fail(OSError(28, "No space left on device")))
        result = World({"http://a/": Page(b"x")}, sinks=[archive]).fetch("http://a/")
        self.assertEqual(error_text(result.error), "SaveFailed: No space left on device")

    def test_a_record_that_hits_a_full_disk_is_rolled_back(self):
        archive = self.archive("x.warc")
        pages = {f"http://a/{name}": Page(name.encode() * 500_000) for name in "12"}
        world = World(pages, sinks=[archive])
        self.assertIsNone(world.fetch("http://a/1").error)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_FSIZE, limits)
        resource.setrlimit(resource.RLIMIT_FSIZE, (archive.size + 300_000, limits[1]))
        self.assertEqual(
            error_text(world.fetch("http://a/2").error), f"SaveFailed: File too large: {self.path}"
        )
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        self.assertIsNone(world.fetch("http://a/2").error)
        self.successResultOf(archive.close())
        self.assertEqual([record[0] for record in self.records()].count("response"), 2)
        self.assert_valid()


class WireTests(SynchronousTestCase):
    """What evserve's own client sends and receives, byte for byte."""

    def setUp(self):
        self.network = Network()
        self.path = Path(self.mktemp())

    def begin(self, url=HOST, client=None, omit=(), cookies=None, headers=(), **settings):
        """Begin to fetch `url`; return the server's end of the connection."""
        self.archive = WARCSink(self.path, execute, "testbot", omit=omit)
        client = self.network.client(cookies, **settings)
        policy = Policy(obey_robots=False, retry=RetryPolicy(0))
        self.fetcher = Fetcher(client, self.network.reactor, policy, [self.archive])
        self.fetched = self.fetcher.fetch(url, headers=headers)
        return self.network.accept()

    def records(self):
        """Return the records by kind, as the file has them, without digests and other headers."""
        self.successResultOf(self.archive.close())
        assert_valid(self, self.path)
        found = {"request": [], "response": []}
        data = self.path.read_bytes()
        while data:
            head, _, data = data.partition(b"\r\n\r\n")
            length = int(re.search(rb"Content-Length: (\d+)", head)[1])
            block, end, data = data[:length], data[length : length + 4], data[length + 4 :]
            self.assertEqual(end, b"\r\n\r\n")
            kind = re.search(rb"WARC-Type: (\w+)", head)[1].decode()
            if kind != "warcinfo":
                found[kind].append(block)
        return found

    def recorded(self, answer, closes=False, **how):
        """Return the one response record for what the server sends."""
        peer = self.begin(**how)
        for piece in (answer,) if isinstance(answer, bytes) else answer:
            peer.answer(piece)
        if closes:
            peer.close()
        self.assertIsNone(self.successResultOf(self.fetched).error, answer)
        (block,) = self.records()["response"]
        return block

    def test_a_response_is_recorded_as_it_came(self):
        for answer in (
            b'HTTP/1.1 200 OK\r\nX: filename="caf\xe9.txt"\r\nContent-Length: 2\r\n\r\nok',
            b"HTTP/1.1 200 OK\nx-lower:  two  \nContent-Length:2\n\nok",
            b"HTTP/1.1 200 Tout \xe0 fait\r\nContent-Length: 2\r\nContent-length: 2\r\n\r\nok",
            b"HTTP/1.1 200 \r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok",
            b"HTTP/1.1 404 Gone?\r\nX: \xe2\x82\xac\r\nX:\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2;a\r\nok\r\n00\r\nX:\r\n\r\n",
            b"HTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX-A: one\r\n two\r\n\tthree\r\nContent-Length: 2\r\n\r\nok",
            b"http/1.1 200\r\nTransfer-Encoding: chunked \r\nX Y: z\n\r\n2 \nok\n0\n\n",
        ):
            for pieces in ([answer], [answer[i : i + 1] for i in range(len(answer))]):
                peer = self.begin()
                for piece in pieces:
                    peer.answer(piece)
                self.successResultOf(self.fetched)
                self.assertEqual(self.records()["response"], [answer])

    def test_a_body_that_ends_with_the_connection_is_recorded(self):
        answer = b"HTTP/1.0 200 OK\r\n\r\nhello"
        self.assertEqual(self.recorded(answer, closes=True), answer)

    def test_a_body_larger_than_memory_is_recorded(self):
        self.patch(warc, "_IN_MEMORY", 1000)
        body = os.urandom(300_000)
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n"
        pieces = [head, *(body[i : i + 10_000] for i in range(0, len(body), 10_000))]
        self.assertEqual(self.recorded(pieces), head + body)

    def test_interim_responses_and_what_follows_the_response_are_no_part_of_it(self):
        early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        self.assertEqual(self.recorded(b"HTTP/1.1 100 \r\n\r\n" + early + answer), answer)
        self.assertEqual(self.recorded(answer + b"HTTP/1.1 200 more"), answer)

    def test_a_long_head_is_recorded(self):
        answer = b"HTTP/1.1 200 OK\r\nX: %b\r\nContent-Length: 2\r\n\r\nok" % (b"y" * 150_000)
        self.assertEqual(self.recorded(answer), answer)

    def test_a_request_is_recorded_as_it_was_sent(self):
        cookies = Cookies()
        headers = [(b"user-agent", b"me"), (b"Cookie", b"a=b"), (b"X-A", b"\xe9")]
        peer = self.begin("http://u:p@192.0.2.1/x?y", cookies=cookies, headers=headers)
        sent = peer.take()
        self.assertIn(b"Authorization: Basic", sent)
        self.assertEqual(sent.lower().count(b"user-agent"), 1)
        peer.ok()
        self.assertEqual(self.records()["request"], [sent])
        self.assertNotIn(b"u:p@", self.path.read_bytes())

    def test_a_request_to_a_proxy_is_recorded_as_it_was_sent(self):
        proxy = named_proxy("http://me:secret@192.0.2.9:3128")
        peer = self.begin(proxies=Proxies(proxy, proxy))
        sent = peer.take()
        self.assertTrue(sent.startswith(b"GET http://192.0.2.1/ HTTP/1.1"))
        self.assertIn(b"Proxy-Authorization: ", sent)
        peer.ok()
        self.assertEqual(self.records()["request"], [sent])
        self.assertIn(b"WARC-IP-Address: 192.0.2.9\r\n", self.path.read_bytes())

    def test_headers_can_be_left_out(self):
        omit = [b"authorization", b"X-Key", b"set-cookie"]
        headers = [(b"x-key", b"secret"), (b"X-Key-Name", b"kept")]
        peer = self.begin("http://u:p@192.0.2.1/", omit=omit, headers=headers)
        sent = peer.take()
        head = b"HTTP/1.1 200 OK\r\n%bX: set-cookie: z\r\nContent-Length: 17\r\n\r\n"
        body = b"\nset-cookie: a\n\r\n"
        peer.answer(head % b"SET-cookie: a\r\n secret\n\tsecret\nset-cookie:\r\n" + body)
        records = self.records()
        self.assertEqual(records["response"], [head % b"" + body])
        kept = [line for line in sent.split(b"\r\n") if not line.startswith((b"Auth", b"x-key"))]
        self.assertEqual(records["request"], [b"\r\n".join(kept)])
        self.assertNotIn(b"secret", self.path.read_bytes())

    def test_a_response_that_asks_for_a_password_is_recorded_too(self):
        peer = self.begin("http://u:p@192.0.2.1/")
        sent = [peer.take()]
        asks = b'HTTP/1.1 401 No\r\nWWW-Authenticate: Digest realm="r", nonce="n"\r\n'
        answers = [
            asks + b"Content-Length: 2\r\n\r\nno",
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        ]
        peer.answer(answers[0])
        sent.append(peer.take())
        peer.answer(answers[1])
        self.assertIsNone(self.successResultOf(self.fetched).error)
        self.assertEqual(self.records(), {"request": sent, "response": answers})

    def test_a_request_that_is_repeated_on_another_connection_is_recorded_once(self):
        peer = self.begin()
        peer.ok()
        again = self.fetcher.fetch(f"{HOST}/again")
        peer.close()  # it had expired
        other = self.network.accept()
        sent = other.take()
        other.ok(b"new")
        self.assertIsNone(self.successResultOf(again).error)
        records = self.records()
        self.assertEqual((len(records["response"]), records["request"][1:]), (2, [sent]))

    def test_each_hop_of_a_redirect_is_recorded(self):
        peer = self.begin()
        sent = [peer.take()]
        peer.ok(b"moved", b"Location: /x", status=b"302 Found")
        self.network.advance(0.1)
        sent.append(peer.take())
        peer.ok(b"there")
        records = self.records()
        self.assertEqual(records["request"], sent)
        self.assertEqual([each[-5:] for each in records["response"]], [b"moved", b"there"])

    def test_a_redirect_whose_body_cannot_be_recorded_is_followed(self):
        for framing in (
            b"Content-Length: x\r\n\r\nmoved",
            b"Transfer-Encoding: foo\r\n\r\nmoved",
            b"Transfer-Encoding: chunked\r\n\r\nmoved\r\n",
            b"Content-Length: 5\r\n\r\nmoved",  # too long
        ):
            peer = self.begin(max_body=4)
            peer.answer(b"HTTP/1.1 302 Found\r\nLocation: /x\r\n" + framing)
            self.network.advance(0.1)
            self.network.accept().ok(b"here")
            self.assertIsNone(self.successResultOf(self.fetched).error, framing)
            self.assertEqual([each[-4:] for each in self.records()["response"]], [b"here"])

    def test_a_response_that_is_cut_off_or_too_long_is_not_recorded(self):
        peer = self.begin()
        peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhalf")
        peer.close()
        self.assertIn("TruncatedBody", self.successResultOf(self.fetched).as_json())
        self.assertEqual(self.records()["response"], [])
        self.begin(max_body=3).answer(b"HTTP/1.1 200 OK\r\n\r\nfour")
        self.assertIn("BodyTooLarge", self.successResultOf(self.fetched).as_json())
        self.assertEqual(self.records()["response"], [])

    def test_a_full_temporary_folder_fails_the_url(self):
        def write(_):
            raise OSError(28, "No space left on device")

        full = SimpleNamespace(write=write, close=lambda: None)
        self.patch(tempfile, "SpooledTemporaryFile", lambda _: full)
        self.begin().ok()
        row = self.successResultOf(self.fetched).as_json()
        self.assertIn(f"No space left on device: {tempfile.gettempdir()}", row)

    def test_a_record_has_the_address_and_the_time_of_the_request(self):
        self.patch(warc, "time", SimpleNamespace(time=lambda: 1.5))
        self.recorded(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        data = self.path.read_bytes()
        self.assertEqual(data.count(b"WARC-Date: 1970-01-01T00:00:01.500000Z\r\n"), 2)
        self.assertEqual(data.count(b"WARC-IP-Address: 192.0.2.1\r\n"), 2)

    def test_only_the_digest_of_a_payload_without_chunks_is_stated(self):
        sha1 = b"WARC-Payload-Digest: sha1:" + b32encode(hashlib.sha1(b"ok").digest())
        self.recorded(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        self.assertIn(sha1, self.path.read_bytes())
        self.recorded(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
        response = self.path.read_bytes().partition(b"WARC-Type: response")[2]
        self.assertNotIn(b"WARC-Payload-Digest", response.partition(b"HTTP/1.1")[0])
        with self.path.open("rb") as stream:
            bodies = [each.content_stream().read() for each in ArchiveIterator(stream)]
        self.assertIn(b"ok", bodies)

    def test_an_accept_encoding_of_ones_own_is_sent(self):
        peer = self.begin(headers=[(b"accept-encoding", b"gzip")])
        sent = peer.take()
        self.assertIn(b"accept-encoding: gzip\r\n", sent)
        self.assertEqual(sent.lower().count(b"accept-encoding"), 1)


PAGES = {f"http://a/{number}": Page(b"%d" % number * 5000) for number in range(3)}


class Case(SynchronousTestCase):
    def archive(self, path, size=0):
        return WARCSink(path, execute, "testbot", size=size)

    def filled(self, name, pages):
        """Return an archive's path, and after how many bytes each of its pages ends."""
        path = Path(self.mktemp() + name)
        archive = self.archive(path)
        ends = []
        for url in pages:
            World(PAGES, sinks=[archive]).fetch(url)
            ends.append(archive.size)
        self.successResultOf(archive.close())
        return path, ends

    def assert_valid(self, path):
        assert_valid(self, path)


class WholeTests(Case):
    def test_an_incomplete_record_does_not_count(self):
        for name in (".warc", ".warc.gz"):
            path, (first, second) = self.filled(name, list(PAGES)[:2])
            is_gzip = name.endswith("gz")
            self.assertEqual(complete_records_size(path, gzip=is_gzip), second)
            whole = path.read_bytes()
            found = []
            for end in range(first, second, 7):
                path.write_bytes(whole[:end])
                found.append(complete_records_size(path, gzip=is_gzip))
            # The end of the first pair, and the end of the next response.
            self.assertEqual((found[0], len(set(found))), (first, 2))
            path.write_bytes(whole[:first] + b"rubbish")
            self.assert_refused(path, first, gzip=is_gzip)

    def assert_refused(self, path, place, **how):
        error = self.assertRaises(OSError, complete_records_size, path, **how)
        what = f"no WARC record at byte {place}, so none can be added"
        self.assertEqual((error.strerror, error.filename), (what, str(path)))

    def test_an_archive_with_a_damaged_record_is_refused(self):
        for name in (".warc", ".warc.gz"):
            path, (first, _) = self.filled(name, list(PAGES)[:2])
            whole = path.read_bytes()
            path.write_bytes(whole[:first] + bytes(200) + whole[first + 200 :])
            self.assert_refused(path, first, gzip=name.endswith("gz"))

    def test_a_file_that_is_not_an_archive_is_refused(self):
        path = Path(self.mktemp())
        head = b"WARC/1.1\r\n"
        for text in (
            b"hello",
            b"WART",
            b"WARC/1.1\n\n",
            head + b"\r\n",
            head + b"Content-Length: x\r\n\r\n",
            head + b"Content-Length: 1\r\n\r\n1\r\n\n",
            head + b"Content-Length: 1\r\n\r\n1\r\n\rmore",
            head + b"x" * 2_000_000,
        ):
            path.write_bytes(text)
            self.assert_refused(path, 0, gzip=False)
        for text in (b"hello", gzip.compress(b"hello"), gzip.compress(b"WART")):
            path.write_bytes(text)
            self.assert_refused(path, 0, gzip=True)

    def test_an_incomplete_first_record_does_not_count(self):
        path = Path(self.mktemp())
        head = b"WARC/1.1\r\n"
        for text in (b"", b"WA", head, head + b"Content-Length: 5\r\n\r\nhello\r\n\r"):
            path.write_bytes(text)
            self.assertEqual(complete_records_size(path, gzip=False), 0, text)
        for text in (b"", b"\x1f", gzip.compress(head)[:-1]):
            path.write_bytes(text)
            self.assertEqual(complete_records_size(path, gzip=True), 0, text)

    def test_a_long_record_that_compresses_well_is_read_to_its_end(self):
        path = Path(self.mktemp())
        whole = gzip.compress(b"WARC/1.1\r\n" + bytes(10_000_000))
        for tail in (b"", whole[:-1]):
            path.write_bytes(whole + tail)
            self.assertEqual(complete_records_size(path, gzip=True), len(whole))


class CutTests(Case):
    def test_a_shortened_archive_continues_after_its_last_complete_record(self):
        for name in (".warc", ".warc.gz"):
            path, (first, second) = self.filled(name, list(PAGES)[:2])
            path.write_bytes(path.read_bytes()[: first + 20])
            archive = self.archive(path, size=second)
            self.assertEqual(archive.size, first)
            self.assertIsNone(World(PAGES, sinks=[archive]).fetch("http://a/2").error)
            self.successResultOf(archive.close())
            self.assert_valid(path)

    def test_a_removed_archive_is_created_again(self):
        path, (end,) = self.filled(".warc", ["http://a/0"])
        whole = len(path.read_bytes())
        for leave in (path.unlink, lambda: path.write_bytes(b"")):
            leave()
            archive = self.archive(path, end)
            self.assertIsNone(World(PAGES, sinks=[archive]).fetch("http://a/0").error)
            self.successResultOf(archive.close())
            self.assertEqual(path.stat().st_size, whole)
            self.assert_valid(path)

    def test_an_archive_without_a_journal_entry_is_appended_to(self):
        path, (end,) = self.filled(".warc.gz", ["http://a/0"])
        before = path.read_bytes()
        archive = self.archive(path, None)
        self.assertEqual(archive.size, end)
        World(PAGES, sinks=[archive]).fetch("http://a/1")
        self.successResultOf(archive.close())
        self.assertTrue(path.read_bytes().startswith(before))
        self.assert_valid(path)

    def test_an_archive_of_a_killed_run_continues_after_its_last_complete_record(self):
        path, (end,) = self.filled(".warc", ["http://a/0"])
        path.write_bytes(path.read_bytes() + path.read_bytes()[:1000])
        archive = self.archive(path, None)
        # What says who wrote the archive is a whole record.
        self.assertGreater(archive.size, end)
        World(PAGES, sinks=[archive]).fetch("http://a/1")
        self.successResultOf(archive.close())
        self.assert_valid(path)

    def test_a_file_that_is_not_an_archive_is_not_changed(self):
        path = Path(self.mktemp())
        path.write_bytes(b"a letter")
        for begins in (None, 1000):
            self.assertRaises(OSError, self.archive, path, begins)
            self.assertEqual(path.read_bytes(), b"a letter")
