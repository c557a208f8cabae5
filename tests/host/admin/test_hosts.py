from twisted.trial.unittest import SynchronousTestCase

from evserve.host.admin.hosts import is_own_host


class OwnHostTests(SynchronousTestCase):
    def assert_own(self, reached, *headers):
        for header in headers:
            self.assertTrue(is_own_host([header], reached), header)

    def assert_foreign(self, reached, *headers):
        for header in headers:
            self.assertFalse(is_own_host([header], reached), header)

    def test_loopback_goes_by_its_names_with_and_without_a_port(self):
        names = ("localhost", "LOCALHOST:9100", "127.0.0.1", "127.0.0.1:9100", "[::1]:9100")
        self.assert_own("127.0.0.1", *names)
        self.assert_own("::1", *names)

    def test_loopback_goes_by_the_address_that_was_reached(self):
        self.assert_own("127.0.0.2", "127.0.0.2:9100")
        self.assert_foreign("127.0.0.1", "127.0.0.2:9100")

    def test_a_name_that_was_pointed_at_loopback_is_refused(self):
        self.assert_foreign("127.0.0.1", "evil.example", "evil.example:9100")
        self.assert_foreign("::1", "localhost.evil.example")
        self.assert_foreign("::ffff:127.0.0.1", "evil.example")

    def test_nonsense_is_refused(self):
        self.assert_foreign(
            "127.0.0.1", "", "a@localhost", "localhost:9100:1", "[::1", "localhost:x"
        )

    def test_one_foreign_name_among_several_is_refused(self):
        self.assertFalse(is_own_host(["localhost", "evil.example"], "127.0.0.1"))

    def test_a_client_too_old_to_send_a_name_is_served(self):
        self.assertTrue(is_own_host([], "127.0.0.1"))

    def test_elsewhere_any_name_will_do(self):
        self.assert_own("192.0.2.7", "metrics.example.com")
        self.assert_own("2001:db8::1", "metrics.example.com")
        self.assert_own("::ffff:192.0.2.7", "metrics.example.com")  # by IPv4, to a socket on ::
        self.assert_own("fe80::1%eth0", "metrics.example.com")

    def test_a_unix_socket_has_no_name(self):
        self.assert_own(None, "whatever")
