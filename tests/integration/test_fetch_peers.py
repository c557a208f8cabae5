"""Real servers, nginx and httpbin, through the client itself and through treq on top of it."""

import hashlib
import io
import json
import unittest

import treq
from treq.client import HTTPClient
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from evserve.http.agent import Agent
from evserve.http.auth import Auth
from evserve.http.client import Client
from evserve.http.cookies import Cookies
from evserve.http.errors import TotalTimeout
from evserve.http.settings import Settings, Timeouts
from tests.http.recording_receiver import fetch
from tests.integration.web_servers import HTTPBIN, NGINX, shared_httpbin, start_nginx


TEXT = b"The quick brown fox jumps over the lazy dog. " * 1000
LARGE = bytes(range(256)) * 40_000


class PeerCase(TestCase):
    def client(self, cookies=None, **settings):
        client = Client(reactor, Settings(**settings), cookies)
        self.addCleanup(client.close)
        return client

    async def get(self, path, client=None, **options):
        gathered = fetch(
            client or self.client(), f"http://127.0.0.1:{self.server.port}/{path}", **options
        )
        return await gathered.ended


@unittest.skipUnless(NGINX, "nginx is not installed")
class NginxTests(PeerCase):
    def setUp(self):
        self.server = start_nginx({"text": TEXT, "large": LARGE, "slow": TEXT, "a b ü": b"odd"})
        self.addCleanup(self.server.stop)

    async def test_files_arrive_complete(self):
        got = await self.get("large", decode=False)
        self.assertEqual(hashlib.sha256(got.body).digest(), hashlib.sha256(LARGE).digest())
        self.assertEqual(got.head.length, len(LARGE))

    async def test_compressed_files_arrive_complete(self):
        got = await self.get("text")
        self.assertEqual((got.outcome, got.head.encoding), (TEXT, b"gzip"))

    async def test_many_requests_share_few_connections(self):
        client = self.client(per_origin=4)
        calls = await gatherResults(
            [Deferred.fromCoroutine(self.get(f"text?{n}", client)) for n in range(200)]
        )
        self.assertEqual({call.outcome for call in calls}, {TEXT})
        self.assertLessEqual(client.pool.open, 4)

    async def test_redirects_head_ranges_and_odd_names(self):
        moved = await self.get("moved/text")
        self.assertEqual((moved.outcome, moved.url.target), (TEXT, "/text"))
        head = await self.get("large", method=b"HEAD")
        self.assertEqual((head.outcome, head.head.status), (b"", 200))
        self.assertEqual((await self.get("a b ü")).outcome, b"odd")
        self.assertEqual((await self.get("none")).head.status, 404)

    async def test_a_slow_body_ends_with_the_total_time_out(self):
        client = self.client(timeouts=Timeouts(total=0.5))
        got = await self.get("slow", client, decode=False)
        self.assertIsInstance(got.error, TotalTimeout)

    async def test_a_reader_that_pauses_gets_the_whole_body(self):
        def rest(_):
            gathered.call.pause()
            reactor.callLater(0, gathered.call.resume)

        gathered = fetch(self.client(), f"http://127.0.0.1:{self.server.port}/large", rest)
        self.assertEqual((await gathered.ended).outcome, LARGE)


@unittest.skipUnless(HTTPBIN, "httpbin is not installed")
class HttpbinTests(PeerCase):
    def setUp(self):
        self.server = shared_httpbin()

    async def test_every_coding_is_decoded(self):
        for coding in ("gzip", "deflate", "brotli"):
            got = await self.get(coding)
            self.assertTrue(
                json.loads(got.body)[
                    coding.replace("gzip", "gzipped").replace("deflate", "deflated")
                ],
                coding,
            )

    async def test_digest_in_its_variants(self):
        for algorithm in ("MD5", "SHA-256"):
            client = self.client(Cookies())
            auth = Auth("user", "secret", digest=True)
            got = await self.get(f"digest-auth/auth/user/secret/{algorithm}", client, auth=auth)
            self.assertEqual((got.head.status, json.loads(got.body)["user"]), (200, "user"))
            wrong = Auth("user", "wrong", digest=True)
            got = await self.get(f"digest-auth/auth/user/secret/{algorithm}", client, auth=wrong)
            self.assertEqual(got.head.status, 401)

    async def test_basic_cookies_redirects_and_chunks(self):
        client = self.client(Cookies())
        got = await self.get("basic-auth/u/p", client, auth=Auth("u", "p"))
        self.assertEqual(got.head.status, 200)
        got = await self.get("cookies/set?a=1", client)
        self.assertEqual(json.loads(got.body)["cookies"], {"a": "1"})
        got = await self.get("redirect/5", client)
        self.assertEqual((got.head.status, len(got.call.history)), (200, 5))
        got = await self.get("stream/20", client)
        self.assertEqual(len(got.body.splitlines()), 20)

    async def test_posts_arrive(self):
        got = await self.get("post", method=b"POST", body=b"some bytes")
        self.assertEqual(json.loads(got.body)["data"], "some bytes")


@unittest.skipUnless(HTTPBIN, "httpbin is not installed")
class TreqTests(PeerCase):
    """treq's own API over our agent."""

    def setUp(self):
        self.server = shared_httpbin()
        self.http = HTTPClient(Agent(self.client()))

    def url(self, path):
        return f"http://127.0.0.1:{self.server.port}/{path}"

    async def test_content_text_and_json(self):
        response = await self.http.get(self.url("base64/4oiuIEXii4VkYSA9IFE="))
        self.assertEqual(await response.text(), "∮ E⋅da = Q")
        response = await self.http.get(self.url("bytes/1000"))
        self.assertEqual(len(await response.content()), 1000)
        response = await self.http.get(self.url("gzip"))
        self.assertTrue((await response.json())["gzipped"])
        response = await self.http.get(self.url("status/418"))
        self.assertEqual(response.code, 418)

    async def test_treqs_own_content_helpers(self):
        response = await self.http.get(self.url("base64/4oiuIEXii4VkYSA9IFE="))
        self.assertEqual(await treq.text_content(response), "∮ E⋅da = Q")
        self.assertEqual(await treq.content(response), "∮ E⋅da = Q".encode())  # kept by then
        response = await self.http.get(self.url("deflate"))
        self.assertTrue((await treq.json_content(response))["deflated"])
        response = await self.http.get(self.url("html"))
        self.assertIn("Herman Melville", await treq.text_content(response))

    async def test_bodies_are_collected_piece_by_piece(self):
        pieces = []
        response = await self.http.get(self.url("stream-bytes/100000"), unbuffered=True)
        await treq.collect(response, pieces.append)
        self.assertEqual(sum(map(len, pieces)), 100_000)

    async def test_parameters_headers_and_forms(self):
        response = await self.http.get(
            self.url("get"), params={"a": ["1", "ü"]}, headers={"X-One": "1"}
        )
        got = await response.json()
        self.assertEqual((got["args"]["a"], got["headers"]["X-One"]), (["1", "ü"], "1"))
        response = await self.http.post(self.url("post"), data={"a": "1"})
        self.assertEqual((await response.json())["form"], {"a": "1"})

    async def test_json_files_and_producers(self):
        response = await self.http.post(self.url("post"), json={"a": [1]})
        self.assertEqual((await response.json())["json"], {"a": [1]})
        upload = {"file": ("name.txt", io.BytesIO(TEXT))}
        response = await self.http.post(self.url("post"), files=upload)
        self.assertEqual((await response.json())["files"]["file"], TEXT.decode())
        response = await self.http.put(self.url("put"), data=io.BytesIO(b"file-like"))
        self.assertEqual((await response.json())["data"], "file-like")

    async def test_every_method_is_sent(self):
        for verb in ("get", "post", "put", "patch", "delete"):
            response = await getattr(self.http, verb)(self.url(verb))
            self.assertEqual(response.code, 200)
            await response.content()
        response = await self.http.head(self.url("get"))
        self.assertEqual((response.code, await response.content()), (200, b""))

    async def test_auth_and_cookies(self):
        response = await self.http.get(self.url("basic-auth/u/p"), auth=("u", "p"))
        self.assertEqual(response.code, 200)
        response = await self.http.get(self.url("cookies"), cookies={"a": "1"})
        self.assertEqual((await response.json())["cookies"], {"a": "1"})
        response = await self.http.get(self.url("cookies/set?b=2"))
        self.assertEqual({cookie.name for cookie in response.cookies()}, {"a", "b"})

    async def test_redirects_with_their_history(self):
        response = await self.http.get(self.url("redirect/3"))
        self.assertEqual((response.code, len(response.history())), (200, 3))
        response = await self.http.get(self.url("redirect/3"), allow_redirects=False)
        self.assertEqual(response.code, 302)
        ours = HTTPClient(Agent(self.client(), follow=True))
        response = await ours.get(self.url("redirect/3"), allow_redirects=False)
        self.assertEqual((response.code, len(response.history())), (200, 3))
        response = await self.http.post(
            self.url("redirect-to?url=/get&status_code=302"), browser_like_redirects=True
        )
        self.assertEqual(response.code, 200)

    async def test_a_timeout_of_treq_ends_the_request(self):
        from twisted.internet.defer import CancelledError

        with self.assertRaises(CancelledError):
            await self.http.get(self.url("delay/5"), timeout=0.2)
