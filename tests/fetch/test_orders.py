"""What the body of a `fetch.url` event asks for."""

import json

from twisted.trial.unittest import SynchronousTestCase

from evserve.fetch.orders import BadOrder, parse_order


class OrderTests(SynchronousTestCase):
    def test_a_body_is_a_url_or_an_object(self):
        self.assertEqual(parse_order(b" http://a/ \n").url, "http://a/")
        given = {"url": "http://a/", "method": "HEAD", "headers": {"X": "1"}, "timeout": 3}
        order = parse_order(json.dumps(given).encode())
        self.assertEqual((order.method, order.timeout), (b"HEAD", 3.0))
        self.assertEqual(list(order.headers), [(b"X", b"1")])

    def test_nonsense_is_named(self):
        table = [
            (b"", "empty"),
            (b"ftp://a/", "ftp is not a scheme"),
            (b"{", "not JSON"),
            (b"{}", 'no "url"'),
            (b'{"url": 1}', 'no "url"'),
            (b'{"url": "http://a/", "uri": 1}', "unknown key 'uri'"),
            (b'{"url": "http://a/", "method": "POST"}', "method 'POST'"),
            (b'{"url": "http://a/", "method": []}', "method []"),
            (b'{"url": "http://a/", "headers": []}', "headers"),
            (b'{"url": "http://a/", "headers": {"X": 1}}', "headers"),
            (b'{"url": "http://a/", "headers": {"X": "a\\nb"}}', "cannot be sent"),
            (b'{"url": "http://a/", "timeout": 0}', "timeout"),
            (b'{"url": "http://a/", "timeout": true}', "timeout"),
            (b'{"url": "http://a/", "timeout": "1"}', "timeout"),
            (b'{"url": "http://a/", "timeout": Infinity}', "timeout"),
            (b'{"url": "http://a/", "timeout": 1' + b"0" * 400 + b"}", "timeout"),
            (b'{"url": "http://a/", "headers": {"\\ud800": "1"}}', "cannot be sent"),
            (b'{"url": "http://u:\\ud800@a/"}', "half a character"),
            (b'{"url":' + b"[" * 60_000, "too deep"),
        ]
        for body, reason in table:
            self.assertIn(reason, str(self.assertRaises(BadOrder, parse_order, body)), body)
