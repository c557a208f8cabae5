"""The terminal: a progress bar during the run, whole lines, and a clean screen afterwards."""

import json

from twisted.internet.defer import Deferred
from twisted.web.server import NOT_DONE_YET

from tests.integration.commands import CommandCase
from tests.integration.fetch_server import WebSite
from tests.integration.terminal import Terminal, run_on_terminal


class TerminalTests(CommandCase):
    def setUp(self):
        super().setUp()
        self.site = WebSite(self)
        self.waiting = []
        self.asked = Deferred()

        def wait(request):
            self.waiting.append(request)
            self.asked.callback(None)
            return NOT_DONE_YET

        self.site.answers["/quick"] = b"x"
        self.site.answers["/slow"] = wait
        self.quick, self.slow = self.site.url("/quick"), self.site.url("/slow")

    def screen(self, child):
        return Terminal().show(child.out.decode())

    def assert_clean(self, child, *ends):
        """Check that each line but the log's is whole, and that nothing is left of the bar."""
        screen = self.screen(child)
        lines = [line for line in screen.lines if " evserve 0" not in line]
        self.assertEqual(lines[-1], "")
        self.assertTrue(screen.cursor_is_shown)
        self.assertEqual(len(lines[:-1]), len(ends), lines)
        for line, end in zip(lines, ends, strict=False):
            self.assertTrue(line.rstrip().endswith(end), (line, end))
            self.assertNotIn("fetching", line)
            self.assertNotIn("━", line)

    async def test_a_bar_is_shown_until_the_summary(self):
        child = run_on_terminal(self, "fetch", "--no-robots", self.quick, self.slow)
        await child.shows(b"1/2")
        await self.asked
        shown = self.screen(child)
        self.assertIn("fetching ━", shown.lines[-1])
        self.assertIn("1/2 1 B, 0 failed", shown.lines[-1])
        self.assertFalse(shown.cursor_is_shown)
        self.waiting.pop().finish()
        self.assertEqual(await child.ended, 0)
        host = f"{self.site.port}         2        0         1 B"
        lines = [f"{self.quick} 1 bytes received, status 200"]
        lines.append(f"{self.slow} 0 bytes received, status 200")
        text = "\n".join(self.screen(child).lines)
        self.assertIn("fetched 2 of 2 URLs", text)
        self.assertIn(host, text)
        rest = [line.rstrip() for line in self.screen(child).lines[-4:-1]]
        self.assert_clean(child, *lines, *rest)

    async def test_ctrl_c_removes_the_bar(self):
        child = run_on_terminal(self, "fetch", "--no-robots", self.quick, self.slow)
        # Ctrl-C discards what the terminal has not passed on, so not before the end of a redraw.
        await child.until(lambda: b"1/2" in child.out and child.out.endswith(b"\r"))
        child.transport.write(b"\x03")
        self.assertEqual(await child.ended, 1)
        screen = self.screen(child)
        self.assertNotIn("━", "\n".join(screen.lines))
        self.assertNotIn("0 failed", "\n".join(screen.lines))
        self.assertTrue(screen.cursor_is_shown)
        self.assertIn(f"{self.quick} 1 bytes received, status 200", screen.lines)
        text = "\n".join(screen.lines)
        self.assertRegex(text, r"(?m)^[\d-]+ [\d:]+ fetch: stopped before everything was fetched$")
        self.assertRegex(text, r"(?m)^fetched 1 of 1 URLs, 1 B, in ")
        self.assertEqual(screen.lines[-1], "")

    async def test_a_log_line_begins_on_a_new_line(self):
        def busy(request):
            request.setResponseCode(503)
            request.setHeader(b"Retry-After", b"200")
            return b""

        self.site.answers["/busy"] = busy
        child = run_on_terminal(self, "fetch", "--no-robots", self.slow, self.site.url("/busy"))
        await child.until(lambda: b": pausing " in child.out)
        lines = [line for line in self.screen(child).lines if ": pausing " in line]
        self.assertRegex(lines[0], r"^\d{4}-\d\d-\d\d ")
        child.transport.write(b"\x03")
        await child.ended

    async def test_rows_on_the_terminal_are_not_mixed_with_a_bar(self):
        child = run_on_terminal(self, "fetch", "--no-robots", "-o", "-", self.quick, self.slow)
        await child.shows(b'"url"')
        await self.asked
        self.waiting.pop().finish()
        self.assertEqual(await child.ended, 0)
        rows = [line for line in self.screen(child).lines if line.startswith("{")]
        self.assertEqual([json.loads(row)["status_code"] for row in rows], [200, 200])
        self.assertNotIn("fetching", child.out.decode())

    async def test_without_a_terminal_there_is_no_bar(self):
        child = self.evserve("fetch", "--no-robots", self.quick)
        self.assertEqual(await child.ended, 0)
        self.assertNotIn(b"\x1b", child.err + child.out)
        self.assertNotIn(b"fetching", child.err)
