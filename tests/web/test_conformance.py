"""The web tests of Twisted, klein and treq pass on the fast channel."""

import importlib.util
import json
import os
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SkipTest, TestCase

from tests.integration.processes import run_python
from tests.integration.web_servers import HTTPBIN


ROOT = Path(__file__).parents[2]

# By the reason: tests of the inner parts of the stock channel, and of what is otherwise here.
_BY_REASON = {
    "HTTP/1.0 has no transfer codings": [
        "test_http.ChunkingTests.test_multipartFormData",
        "test_http.ParsingTests.test_chunkedEncoding",
    ],
    "there is no transfer coding `identity`": [
        "test_http.ParsingTests.test_transferEncodingIdentity"
    ],
    "a folded line is refused": ["test_http.ParsingTests.test_headersMultiline"],
    "control characters in values are refused": [
        "test_http.ParsingTests.test_headerStripWhitespace"
    ],
    "a request is answered when the client has read what was written": [
        "test_http.ChannelProductionTests.test_HTTPChannelToleratesDataWhenTransportPaused",
    ],
    "the one timer of a connection stays while a request is answered, and does nothing": [
        "test_web.TestRFC9112Section932.test_multipleRequestsInDifferentSegments",
        "test_web.TestRFC9112Section932.test_multipleRequestsInOneSegment",
    ],
    "a fast site makes fast requests": ["test_web.SiteTest.test_defaultRequestFactory"],
}
NOT_FOR_US = {name for names in _BY_REASON.values() for name in names}
if os.geteuid() == 0:  # who may read everything; it fails on the stock channel too
    NOT_FOR_US.add("test_static.StaticFileTests.test_forbiddenResource")


async def outcomes_on(test, name, suite):
    words = ("-W", "ignore", "-m", "tests.web.conformance", name, suite)
    child = run_python(test, *words, folder=ROOT, stdin=False)
    await child.ended
    return json.loads(child.out.splitlines()[-1])


class ConformanceTests(TestCase):
    """At least so many tests pass, and no test fails that passes on the stock channel."""

    async def run_suite(self, suite, fewest):
        fast = await outcomes_on(self, "fast", suite)
        failing = {name: what for name, what in fast.items() if what not in ("pass", "skip")}
        unexplained = failing.keys() - NOT_FOR_US
        if unexplained:
            stock = await outcomes_on(self, "stock", suite)
            unexplained = {name for name in unexplained if stock[name] == "pass"}
        self.assertEqual({name: failing[name] for name in sorted(unexplained)}, {})
        passing = {name for name, what in fast.items() if what == "pass"}
        self.assertEqual(NOT_FOR_US & passing, set())
        self.assertGreater(len(passing), fewest)

    def test_twisted(self):
        # Without h2, httpx and wsproto there are about 700.
        return Deferred.fromCoroutine(self.run_suite("twisted", 650))

    def test_klein(self):
        if importlib.util.find_spec("klein") is None:
            raise SkipTest("klein is not installed")
        return Deferred.fromCoroutine(self.run_suite("klein", 120))

    def test_treq(self):
        if not HTTPBIN:
            raise SkipTest("Debian's python3-httpbin is not installed")
        return Deferred.fromCoroutine(self.run_suite("treq", 80))
