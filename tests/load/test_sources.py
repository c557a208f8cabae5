"""Source addresses, and room for files."""

import errno
import resource

from twisted.internet.error import ConnectBindError, getConnectError
from twisted.trial.unittest import SynchronousTestCase

from evserve.load.files import TooManyFilesError, make_room
from evserve.load.sources import Sources


NO_PORT = getConnectError((errno.EADDRNOTAVAIL, "no port"))


class SourceTests(SynchronousTestCase):
    def test_the_system_chooses_until_its_ports_are_used_up(self):
        sources = Sources("tcp:127.0.0.1:9000")
        first = sources.current
        self.assertEqual(first, "tcp:127.0.0.1:9000")
        self.assertTrue(sources.move_on(first, NO_PORT))
        self.assertEqual(sources.current, "tcp:127.0.0.1:9000:bindAddress=127.0.0.2")
        self.assertTrue(sources.move_on(sources.current, ConnectBindError(errno.EADDRINUSE, "")))
        self.assertTrue(sources.current.endswith(".3"))

    def test_one_address_used_up_is_one_step_however_many_stumble_over_it(self):
        sources = Sources("tcp:host=127.0.0.1:port=9000")
        first = sources.current
        for _ in range(5):
            self.assertTrue(sources.move_on(first, NO_PORT))
        self.assertTrue(sources.current.endswith(".2"))

    def test_other_errors_have_other_causes(self):
        sources = Sources("tcp:127.0.0.1:9000")
        for error in (getConnectError((errno.ECONNREFUSED, "")), ValueError("x")):
            self.assertFalse(sources.move_on(sources.current, error))

    def test_only_loopback_has_other_addresses(self):
        for connect in ("tcp:192.0.2.1:9000", "tcp:localhost:9000", "unix:/run/echo"):
            sources = Sources(connect)
            self.assertFalse(sources.move_on(connect, NO_PORT))

    def test_an_address_that_was_asked_for_stays(self):
        connect = "tcp:127.0.0.1:9000:bindAddress=127.0.0.9"
        self.assertFalse(Sources(connect).move_on(connect, NO_PORT))

    def test_the_addresses_end(self):
        sources = Sources("tcp:127.0.0.1:9000")
        moves = 0
        while sources.move_on(sources.current, NO_PORT):
            moves += 1
        self.assertEqual(moves, 253)


class RoomTests(SynchronousTestCase):
    def limits(self, soft, hard, connections):
        given = []
        self.patch(resource, "getrlimit", lambda _: (soft, hard))
        self.patch(resource, "setrlimit", lambda _, limits: given.append(limits))
        make_room(connections)
        return given

    def test_the_soft_limit_is_raised_as_far_as_needed(self):
        self.assertEqual(self.limits(1024, 20_000, 10_000), [(10_064, 20_000)])
        self.assertEqual(
            self.limits(1024, resource.RLIM_INFINITY, 10_000), [(10_064, resource.RLIM_INFINITY)]
        )

    def test_a_limit_that_is_high_enough_stays(self):
        self.assertEqual(self.limits(1024, 2048, 100), [])
        self.assertEqual(self.limits(resource.RLIM_INFINITY, resource.RLIM_INFINITY, 100), [])

    def test_a_hard_limit_is_told_in_one_line(self):
        error = self.assertRaises(TooManyFilesError, self.limits, 1024, 4096, 5000)
        self.assertEqual(
            str(error), "5000 connections need 5064 open files, but 'ulimit -Hn' allows 4096"
        )
