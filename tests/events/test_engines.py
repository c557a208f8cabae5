import subprocess
import sys
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from evserve.events import BadQueueURL, QueueURL, engines, open_queue


class QueueURLTests(SynchronousTestCase):
    def test_a_server_is_a_host_and_a_port(self):
        url = QueueURL.parse("beanstalk://[::1]:11300")
        self.assertEqual((url.scheme, url.host, url.port), ("beanstalk", "::1", 11300))

    def test_three_slashes_make_an_absolute_path_and_no_slash_a_relative_one(self):
        self.assertEqual(QueueURL.parse("sqlite:///var/queue.db").path, "/var/queue.db")
        self.assertEqual(QueueURL.parse("sqlite:var/queue.db").path, "var/queue.db")

    def test_a_path_may_be_quoted(self):
        self.assertEqual(QueueURL.parse("sqlite:a%3Fb%20c").path, "a?b c")

    def test_memory_needs_no_path(self):
        for text in ("memory:", "memory://"):
            self.assertEqual(QueueURL.parse(text).scheme, "memory")

    def test_parameters_are_unquoted(self):
        url = QueueURL.parse("beanstalk+tls://host?ca=/a%20b.pem&key=")
        self.assertEqual(url.parameters, {"ca": "/a b.pem", "key": ""})

    def test_only_its_engine_reads_an_opaque_url(self):
        text = "postgresql://u:p@h1:5432,h2:5433/db?target_session_attrs=any"
        self.assertEqual(QueueURL.parse(text), QueueURL(text, "postgresql"))

    def test_passwords_are_not_shown(self):
        for text, shown in (
            ("postgresql://u:p@s/s#w:rd@h:1/db", "'postgresql://u:***@h:1/db'"),
            ("postgresql://u@h/db?password=pw&sslpassword=pw", ""),
            ("postgresql://u@h:1/db?a=b", "'postgresql://u@h:1/db?a=b'"),
        ):
            self.assertNotIn("pw", QueueURL.parse(text).shown)
            self.assertIn(shown, QueueURL.parse(text).shown)
        for text in ("carrier://u:pw@h", "beanstalk://u:p/pw@h", "beanstalk://u:pw@h:1"):
            error = self.assertRaises(BadQueueURL, open_queue, text, None)
            self.assertNotIn("pw", str(error))


class OpenQueueTests(SynchronousTestCase):
    def test_a_mistake_is_one_line_that_names_the_url(self):
        for text in (
            "carrier-pigeon://loft",
            "localhost",
            "",
            "beanstalk://h:99999",
            "sqlite:a?b",
            "sqlite:a?b=c",
            "memory:?a=1&a=2",
            "sqlite:a#b",
            "sqlite:a%00b",
        ):
            error = self.assertRaises(BadQueueURL, open_queue, text, None)
            self.assertIn(repr(text), str(error))
            self.assertNotIn("\n", str(error))

    def test_the_scheme_names_the_module_that_opens(self):
        with patch.dict(engines.ENGINES, {"test": __name__}):
            opened = open_queue("test://host/x", "reactor")
        self.assertEqual(opened, (QueueURL("test://host/x", "test", "host", path="/x"), "reactor"))

    def test_an_engine_that_is_not_installed_is_one_line(self):
        with patch.dict(engines.ENGINES, {"test": "no_such_engine"}):
            error = self.assertRaises(BadQueueURL, open_queue, "test://host", None)
        self.assertIn("No module named 'no_such_engine'", str(error))

    def test_importing_events_imports_no_engine_and_no_reactor(self):
        script = (
            "import sys, evserve.events; "
            "print([m for m in sys.modules if m in "
            "('twisted.internet.reactor', 'evserve.queue', 'evserve.events.beanstalk')])"
        )
        output = subprocess.check_output([sys.executable, "-c", script], text=True)
        self.assertEqual(output.strip(), "[]")


def open_engine(url, reactor):
    """Make this module an engine."""
    return url, reactor
