import re

from twisted.trial.unittest import SynchronousTestCase

from evserve.host.admin.page import status_page


class StatusPageTests(SynchronousTestCase):
    def test_nothing_in_it_comes_from_elsewhere(self):
        page = status_page().body.decode()
        links = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')>\s]+)""", page)
        self.assertEqual(set(links), {"data:,", "/api/status", "/metrics", "/healthz", "/readyz"})

    def test_only_its_own_style_and_script_may_run(self):
        answer = status_page()
        self.assertIn("default-src 'none'", answer.policy)
        for source in ("style-src", "script-src"):
            self.assertRegex(answer.policy, rf"{source} 'sha256-[\w+/]{{43}}=';")
        self.assertNotIn("unsafe", answer.policy)
        self.assertNotRegex(answer.body.decode(), r"<[^>]* (style|on\w+)=")
