"""Checksums that a thread takes: the same as hashlib's, and no more held than was said."""

import random
from hashlib import sha256
from threading import Event, Thread

from twisted.trial.unittest import SynchronousTestCase

from evserve.fetch.hashing import HashThread


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

    def test_a_checksum_may_be_asked_for_on_the_way(self):
        hasher = self.thread.hasher()
        self.assertEqual(hasher.hexdigest(), sha256().hexdigest())
        hasher.update(b"a")
        self.assertEqual(hasher.hexdigest(), sha256(b"a").hexdigest())
        for _ in range(10):
            hasher.update(b"b")
        self.assertEqual(hasher.hexdigest(), sha256(b"a" + 10 * b"b").hexdigest())

    def test_a_mebibyte_is_hashed_while_the_next_is_gathered_and_no_more(self):
        slow = SlowHash()
        hasher = self.thread.hasher(slow)
        mebibyte = 1024 * 1024
        hasher.update(b"1" * mebibyte)
        hasher.update(b"2" * (mebibyte - 1))
        self.assertEqual(slow.pieces, [])
        is_taken = Event()

        def bring_more():
            hasher.update(b"3")
            is_taken.set()

        other = Thread(target=bring_more)
        other.start()
        self.assertFalse(is_taken.is_set())
        slow.let.set()
        other.join(60)
        self.assertTrue(is_taken.is_set())
        self.assertEqual(hasher.hexdigest(), "1" * mebibyte + "2" * (mebibyte - 1) + "3")
