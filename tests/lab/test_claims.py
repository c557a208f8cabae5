"""The verdict on each claim, with figures that confirm it and with figures that do not."""

from twisted.trial.unittest import SynchronousTestCase

from evserve.lab import claims
from evserve.lab.results import Verdict


LINEAR, FLAT = [5e-6, 20e-6, 35e-6], [4e-6, 4.1e-6, 4.2e-6]


class VerdictTests(SynchronousTestCase):
    def holds(self, claim, *words):
        self.says(claim, Verdict.HOLDS, *words)

    def fails(self, claim, *words):
        self.says(claim, Verdict.FAILS, *words)

    def says(self, claim, verdict, *words):
        self.assertEqual(claim.verdict, verdict, claim)
        for each in words:
            self.assertIn(each, claim.evidence)
        for value in claim.numbers.values():
            self.assertIsInstance(value, float)

    def scanning(self, select, poll, epoll):
        costs = {"select_loop": select, "poll_loop": poll, "epoll_level": epoll}
        return claims.judge_scanning(costs)

    def test_select_and_poll_grow_and_epoll_does_not(self):
        claim = self.scanning(LINEAR, LINEAR, FLAT)
        self.holds(claim, "select_loop 5.0 → 35.0 µs (7.0 times)", "epoll_level 4.0 → 4.2 µs")
        self.assertEqual(claim.numbers["poll_loop_cpu_seconds_per_message_400_idle"], 20e-6)

    def test_if_one_of_them_does_not_grow(self):
        self.fails(self.scanning(FLAT, LINEAR, FLAT))
        self.fails(self.scanning(LINEAR, FLAT, FLAT))

    def test_if_epoll_grows_too(self):
        self.fails(self.scanning(LINEAR, LINEAR, LINEAR))

    def test_growth_that_is_not_linear(self):
        parabola = [5e-6, 10e-6, 35e-6]
        self.fails(self.scanning(LINEAR, parabola, FLAT), "Not linear: poll_loop.")
        root = [5e-6, 30e-6, 35e-6]
        self.fails(self.scanning(root, LINEAR, FLAT), "Not linear: select_loop.")

    def stalling(self, blocking, epoll):
        waited = {"blocking": blocking, "epoll_level": epoll}
        return claims.judge_serial("stalling", claims.STALLING, waited)

    def test_a_silent_client_stalls_blocking_and_not_epoll(self):
        claim = self.stalling(None, 0.0012)
        self.holds(claim, "blocking gives no answer in 500 ms", "epoll_level answers after 1.2 ms")
        self.assertEqual(claim.numbers, {"epoll_level_answer_seconds": 0.0012})
        self.fails(self.stalling(0.001, 0.001))
        self.fails(self.stalling(None, None))

    def unpatched(self, unpatched, patched):
        waited = {"gevent_unpatched": unpatched, "gevent_patched": patched}
        return claims.judge_serial("unpatched", claims.UNPATCHED, waited)

    def test_unpatched_gevent_is_serial_and_patched_is_not(self):
        self.holds(self.unpatched(None, 0.01))
        self.fails(self.unpatched(0.01, 0.01))

    def threads(self, thread, epoll):
        return claims.judge_threads({"thread_per_connection": thread, "epoll_level": epoll})

    def test_threads_cost_memory(self):
        self.holds(self.threads(25_000.0, 500.0), "25.0 kB", "0.5 kB", "50 times as much")
        self.fails(self.threads(900.0, 500.0), "2 times as much")

    def test_memory_that_shrinks_is_almost_nothing(self):
        self.holds(self.threads(25_000.0, -3.0), "almost nothing")

    def polling(self, poll, epoll):
        return claims.judge_polling({"nonblocking_polling": poll, "epoll_level": epoll})

    def test_polling_uses_cpu_when_idle_and_epoll_does_not(self):
        self.holds(self.polling(0.99, 0.0), "polling uses 0.99 s of CPU per second, epoll 0.00 s")
        self.fails(self.polling(0.04, 0.0))
        self.fails(self.polling(0.99, 0.5))

    def test_slow_pages_overlap(self):
        claim = claims.judge_sleeping([0.3, 0.6, 0.9], 0.91)
        self.holds(claim, "Pages of 0.3, 0.6, 0.9 s", "in 0.91 s", "sequentially 1.8 s")
        self.fails(claims.judge_sleeping([0.3, 0.6, 0.9], 1.8))

    def test_what_could_not_be_measured_says_why(self):
        claim = claims.unknown_claim("threads", claims.THREADS, "no threads here")
        self.assertEqual((claim.verdict, claim.evidence), (Verdict.UNKNOWN, "no threads here"))
