from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from evserve.events import BadQueueURL, open_queue


class OpenTests(SynchronousTestCase):
    def address(self, url):
        reactor = MemoryReactorClock()
        open_queue(url, reactor).put("mail", b"").addErrback(lambda _: None)
        (host, port, *_), *_ = reactor.tcpClients
        return host, port

    def test_ip_addresses_are_connected_to_without_a_look_up(self):
        self.assertEqual(self.address("beanstalk://127.0.0.1:9300"), ("127.0.0.1", 9300))
        self.assertEqual(self.address("beanstalk://[::1]:9300/"), ("::1", 9300))

    def test_the_port_may_be_left_out(self):
        self.assertEqual(self.address("beanstalk://127.0.0.1"), ("127.0.0.1", 11300))

    def test_no_connection_is_made_before_it_is_needed(self):
        reactor = MemoryReactorClock()
        open_queue("beanstalk://127.0.0.1", reactor)
        self.assertEqual(reactor.tcpClients, [])

    def test_a_server_needs_a_host_and_has_no_path(self):
        for url in ("beanstalk:", "beanstalk://:9300", "beanstalk://localhost/queue"):
            error = self.assertRaises(BadQueueURL, open_queue, url, MemoryReactorClock())
            self.assertIn(repr(url), str(error))
