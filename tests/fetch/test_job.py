"""The hash thread."""

import random
from hashlib import sha256
from threading import Event, Thread

from twisted.trial.unittest import SynchronousTestCase

from evserve.fetch.job import HashThread


class SlowHash:
    """Begins to work when it is let."""

    def __init__(self):
        self.let = Event()
        self.pieces = []

    def update(self, data):
        self.let.wait()
        self.pieces.append(data)

    def hexdigest(self):
        return b"".join(self.pieces).decode()


class HashThreadTests(SynchronousTestCase):
    def setUp(self):
        self.thread = HashThread()

    def test_the_checksum_is_that_of_all_pieces_in_order(self):
        chance = random.Random(1)
        pieces = [chance.randbytes(chance.randint(0, 300_000)) for _ in range(50)]
        first, second = self.thread.hasher(), self.thread.hasher()
        for piece in pieces:
            first.update(piece)
            second.update(piece[::-1])
        self.assertEqual(first.hexdigest(), sha256(b"".join(pieces)).hexdigest())
        reversed_pieces = b"".join(piece[::-1] for piece in pieces)
        self.assertEqual(second.hexdigest(), sha256(reversed_pieces).hexdigest())

    def test_a_checksum_of_the_pieces_so_far_is_available(self):
        hasher = self.thread.hasher()
        self.assertEqual(hasher.hexdigest(), sha256().hexdigest())
        hasher.update(b"a")
        self.assertEqual(hasher.hexdigest(), sha256(b"a").hexdigest())
        for _ in range(10):
            hasher.update(b"b")
        self.assertEqual(hasher.hexdigest(), sha256(b"a" + 10 * b"b").hexdigest())

    def test_the_hash_thread_is_at_most_a_mebibyte_behind(self):
        slow = SlowHash()
        first, second = self.thread.hasher(slow), self.thread.hasher()
        half = 512 * 1024
        first.update(b"1" * half)
        second.update(b"2" * half)
        first.update(b"3" * half)
        second.update(b"4" * (half - 1))
        self.assertEqual(slow.pieces, [])
        is_taken = Event()

        def bring_more():
            first.update(b"5")
            is_taken.set()

        other = Thread(target=bring_more)
        other.start()
        self.assertFalse(is_taken.is_set())
        slow.let.set()
        other.join(60)
        self.assertTrue(is_taken.is_set())
        self.assertEqual(first.hexdigest(), "1" * half + "3" * half + "5")
        body = b"2" * half + b"4" * (half - 1)
        self.assertEqual(second.hexdigest(), sha256(body).hexdigest())
