"""Whatever ends a connection is said in words."""

from OpenSSL import SSL
from twisted.internet import error
from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from evserve.http.connect import explain_connecting, explain_loss
from evserve.http.url import Origin


ORIGIN = Origin("http", "a.example", 80)


class ReasonTests(SynchronousTestCase):
    def test_why_there_is_no_connection(self):
        for cause, name, words in (
            (error.DNSLookupError(), "ConnectFailed", "a.example cannot be resolved"),
            (error.ConnectionRefusedError(), "ConnectFailed", "refuses connections"),
            (error.TCPTimedOutError(), "ConnectTimeout", "does not answer"),
            (error.TimeoutError(), "ConnectTimeout", "does not answer"),
            (CancelledError(), "Cancelled", "given up"),
            (OSError(), "ConnectFailed", "OSError"),
        ):
            explained = explain_connecting(Failure(cause), ORIGIN)
            self.assertEqual(type(explained).__name__, name)
            self.assertIn(words, str(explained))

    def test_why_there_is_none_any_more(self):
        for cause, name, words in (
            (error.ConnectionDone(), "ConnectionLost", "was closed"),
            (error.ConnectionLost(), "ConnectionLost", "broke"),
            (SSL.Error(), "TLSFailed", "the handshake failed"),
            (SSL.Error([("SSL routines", "", "bad record mac")]), "TLSFailed", "bad record mac"),
            (SSL.Error([("", "", "unsupported protocol")]), "TLSFailed", "TLS 1.2 or later"),
        ):
            explained = explain_loss(Failure(cause), None)
            self.assertEqual(type(explained).__name__, name)
            self.assertIn(words, str(explained))
