"""User names and passwords on the command line: Basic and Digest, for servers and proxies."""

from urllib.parse import quote

from tests.integration.fetch_case import Case
from tests.integration.fetch_digest import DigestPage
from tests.integration.fetch_proxy import Proxy


class PasswordCase(Case):
    def named(self, path, user="me", password="pä:ss"):
        return self.site.url(path).replace("//", f"//{quote(user)}:{quote(password)}@")

    async def statuses(self, *urls, status=0, words=()):
        rows = ["--no-robots", "-o", "rows.jsonl", "--per-origin", "1"]
        await self.fetched(*rows, *words, *urls, status=status)
        return [row["status_code"] for row in self.rows()]


class DigestTests(PasswordCase):
    def page(self, *details, **more):
        page = DigestPage(*details, **more)
        for number in range(4):
            self.site.answers[f"/{number}"] = page
        return page

    async def test_the_password_in_a_url_answers_a_challenge(self):
        for algorithm in ("MD5", "SHA-256"):
            page = self.page(algorithm)
            self.assertEqual(await self.statuses(self.named("/0?q=%C3%A4&r=1")), [200])
            self.assertEqual(page.refusals, 1)

    async def test_a_challenge_is_remembered(self):
        page = self.page()
        urls = [self.named(f"/{number}") for number in range(4)]
        self.assertEqual(await self.statuses(*urls), [200] * 4)
        self.assertEqual((page.refusals, page.basic), (1, 1))

    async def test_a_stale_nonce_is_replaced(self):
        page = self.page(uses=1)
        urls = [self.named(f"/{number}") for number in range(4)]
        self.assertEqual(await self.statuses(*urls), [200] * 4)
        self.assertEqual((page.refusals, page.basic), (4, 1))

    async def test_a_wrong_password_is_tried_once(self):
        page = self.page()
        url = self.named("/0", password="wrong")
        self.assertEqual(await self.statuses(url, status=1), [401])
        self.assertEqual(page.refusals, 2)
        (row,) = self.rows()
        self.assertEqual(row["error"], "BadStatus: 401 Unauthorized")

    async def test_endless_stale_nonces_are_answered_a_limited_number_of_times(self):
        page = self.page(uses=0)
        self.assertEqual(await self.statuses(self.named("/0"), status=1), [401])
        self.assertEqual(page.refusals, 6)

    async def test_another_origin_does_not_get_the_password(self):
        page = self.page()
        self.site.answers["/away"] = lambda request: request.redirect(b"/0") or b""
        self.assertEqual(await self.statuses(self.named("/away")), [200])
        other = self.site.url("/0").replace("127.0.0.1", "localhost").encode()
        self.site.answers["/away"] = lambda request: request.redirect(other) or b""
        self.assertEqual(await self.statuses(self.named("/away"), status=1), [401])
        self.assertEqual(self.site.requests[-1].getHeader("authorization"), None)
        self.assertEqual(page.refusals, 2)

    async def test_a_proxy_and_a_server_may_both_require_passwords(self):
        page, proxy = self.page(), Proxy(self)
        proxy.wants = b"Basic dTpw"
        proxy.relays = True
        words = ["--proxy", f"http://u:p@{proxy.place}"]
        self.assertEqual(await self.statuses(self.named("/0"), words=words), [200])
        self.assertEqual((page.refusals, len(proxy.asked)), (1, 2))


class BasicTests(PasswordCase):
    async def test_the_password_in_a_url_is_sent_with_the_first_request(self):
        self.site.answers["/"] = lambda request: request.getHeader("authorization").encode()
        self.assertEqual(await self.statuses(self.named("/")), [200])
        self.assertEqual(self.site.requests[-1].getHeader("authorization"), "Basic bWU6cMOkOnNz")

    async def test_a_password_with_control_characters_is_refused(self):
        url = self.named("/", user="me\r\nX-Evil: 1")
        self.assertEqual(await self.statuses(url, status=1), [None])
        error = "BadURL: the user name or password contains a control character"
        self.assertEqual([row["error"] for row in self.rows()], [error])
