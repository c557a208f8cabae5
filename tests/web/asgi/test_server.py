from prometheus_client import CollectorRegistry
from twisted.logger import capturedLogs

from tests.web.asgi.memory_server import GET, MASKED_HI, UPGRADE, Echo, ServerCase, Slow, hello


class OptionTests(ServerCase):
    def ask(self, *words):
        """Return the scope of a request."""
        application = Slow()
        self.serve(application, *words)
        self.send(self.connect(), GET[:-2] + b"X-Forwarded-For: 198.51.100.1\r\n\r\n")
        return application.scopes[0]

    def test_the_path_of_a_proxy(self):
        self.assertEqual(self.ask()["root_path"], "")
        scope = self.ask("--root-path", "/below")
        self.assertEqual((scope["root_path"], scope["path"]), ("/below", "/below/"))

    def test_the_proxies_that_are_believed(self):
        self.assertEqual(self.ask()["client"][0], "192.0.2.7")
        scope = self.ask("--forwarded-allow-ips", "192.0.2.0/24")
        self.assertEqual(scope["client"][0], "198.51.100.1")

    def test_the_size_of_a_message(self):
        application = Echo()
        self.serve(application, "--ws-max-size", "1")
        connection = self.connect()
        self.send(connection, UPGRADE)
        connection.sent.clear()
        got = self.send(connection, MASKED_HI)
        self.assertEqual(got[:1] + got[2:4], b"\x88\x03\xf1")  # 1009

    def test_the_time_between_two_requests(self):
        self.serve(hello, "--timeout-keep-alive", "0")
        connection = self.connect()
        self.send(connection, GET)
        self.received(connection)
        self.assertEqual(connection.state, "closed")

    def test_no_access_log(self):
        for words, count in (((), 1), (("--no-access-log",), 0)):
            self.serve(hello, *words)
            with capturedLogs() as events:
                self.send(self.connect(), GET)
                self.server.stop()
            self.assertEqual(len(events), count)


class SecondTests(ServerCase):
    def test_the_date_is_of_this_second(self):
        self.serve(hello)
        self.second_passed()
        first = dict(self.server.state.default_headers)[b"date"]
        self.assertRegex(first, rb"^\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT$")
        self.assertIn(b"\r\ndate: " + first, self.send(self.connect(), GET))
        self.server.state.default_headers = []
        self.second_passed()
        self.assertIn(b"\r\ndate: ", self.send(self.connect(), GET))


class MetricTests(ServerCase):
    def figures(self):
        registry = CollectorRegistry()
        registry.register(self.server)
        names = ("requests_total", "requests_in_progress", "websockets")
        return [registry.get_sample_value(f"evserve_asgi_{name}") for name in names]

    def test_requests(self):
        application = Slow()
        self.serve(application)
        connection = self.connect()
        self.assertEqual(self.figures(), [0, 0, 0])
        self.send(connection, GET)
        self.assertEqual(self.figures(), [0, 1, 0])
        self.in_loop(application.go.set)
        self.assertEqual(self.figures(), [1, 0, 0])

    def test_websockets(self):
        self.serve(Echo())
        connection = self.connect()
        self.send(connection, UPGRADE)
        self.assertEqual(self.figures(), [0, 0, 1])
        self.in_loop(connection.abortConnection)
        self.assertEqual(self.figures(), [0, 0, 0])
