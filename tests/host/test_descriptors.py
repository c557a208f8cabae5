"""Running out of file descriptors."""

import os

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from evserve.host.descriptors import RETRY, DescriptorGuard


class Port:
    numberAccepts = 100
    reading = True

    def stopReading(self):
        self.reading = False

    def startReading(self):
        self.reading = True


class Transport:
    def __init__(self, number):
        self.number = number

    def fileno(self):
        return self.number


class GuardTests(SynchronousTestCase):
    limit = 1024

    def setUp(self):
        self.clock = Clock()
        self.guard = DescriptorGuard(self.clock, self.limit)
        self.port = Port()
        self.guard.watch(self.port)
        self.lowest = 0
        self.probes = []
        self.patch(os, "open", self.open_null)
        self.patch(os, "close", self.probes.remove)

    def open_null(self, path, flags):
        if self.lowest + len(self.probes) >= self.limit:
            raise OSError
        self.probes.append(self.lowest + len(self.probes))
        return self.probes[-1]

    def fill(self):
        self.guard.opened(Transport(self.limit - self.guard.reserve))

    def test_low_numbers_change_nothing(self):
        self.guard.opened(Transport(self.limit - self.guard.reserve - 1))
        self.assertTrue(self.port.reading)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_when_few_are_left_no_port_accepts(self):
        other = Port()
        self.guard.watch(other)
        self.fill()
        self.assertFalse(self.port.reading or other.reading)

    def test_it_goes_on_once_there_is_room(self):
        self.fill()
        self.lowest = self.limit
        self.clock.advance(RETRY)
        self.lowest = self.limit - self.guard.reserve - 1  # which the port may want for itself
        self.clock.advance(RETRY)
        self.assertFalse(self.port.reading)
        self.lowest -= 1
        self.clock.advance(RETRY)
        self.assertTrue(self.port.reading)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_second_alarm_adds_no_second_timer(self):
        self.fill()
        self.fill()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_a_port_that_opens_during_the_pause_waits_with_the_others(self):
        self.fill()
        late = Port()
        self.guard.watch(late)
        self.assertFalse(late.reading)

    def test_a_port_that_is_closed_is_not_read_again(self):
        self.fill()
        self.guard.forget(self.port)
        self.clock.advance(RETRY)
        self.assertFalse(self.port.reading)

    def test_one_turn_never_accepts_more_than_the_reserve(self):
        """Twisted accepts 20 more after each full batch."""
        for _ in range(5):
            self.guard.opened(Transport(5))
            self.assertTrue(self.port.numberAccepts + 20 <= self.guard.reserve)
            self.port.numberAccepts += 20

    def test_transports_and_ports_without_numbers_are_left_alone(self):
        class Strange:
            """Accepts in ways of its own."""

            stopReading = startReading = lambda _: None

        self.guard.watch(Strange())
        self.guard.opened(object())
        self.assertFalse(self.guard.paused)

    def test_the_reserve_grows_with_the_limit_within_reason(self):
        reserves = [
            DescriptorGuard(self.clock, limit).reserve for limit in (48, 64, 512, 1_048_576)
        ]
        self.assertEqual(reserves, [24, 32, 128, 256])
