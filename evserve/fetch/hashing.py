"""Checksums of large bodies, taken by a thread while the reactor reads on and writes.

SHA-256 of a body takes as long as receiving and saving it. `hashlib` lets go of the interpreter
while it works, so that a second core can have it.
"""

from hashlib import sha256
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any

from attrs import define, field, frozen


_ENOUGH = 1024 * 1024  # bytes to wake a thread for
_KEPT = 2 * _ENOUGH

_Pieces = list[tuple[Any, bytes]]  # each with the hash that wants it


@define(eq=False)
class HashThread:
    """Hashes one mebibyte while the next is gathered, of all bodies together.

    Whoever is faster than that waits. The thread begins with the first hasher and ends with the
    process.
    """

    _work: "SimpleQueue[_Pieces]" = field(factory=SimpleQueue, init=False)
    _busy: Lock = field(factory=Lock, init=False)
    _gathered: _Pieces = field(factory=list, init=False)
    _size: int = field(default=0, init=False)
    _thread: Thread | None = field(default=None, init=False)

    def hasher(self, hash_: Any = None) -> "Hasher":
        """Return one that feeds `hash_`, or a new SHA-256."""
        if self._thread is None:
            # glibc keeps freed blocks up to twice the size of the largest one so far. If it gave
            # the pieces' memory back, every page of the next ones would be a fault.
            bytes(_KEPT)
            self._thread = Thread(target=self._run, name="evserve-fetch-hash", daemon=True)
            self._thread.start()
        return Hasher(self, sha256() if hash_ is None else hash_)

    def take(self, hash_: Any, data: bytes) -> None:
        """Feed `data` to `hash_` some time."""
        self._gathered.append((hash_, data))
        self._size += len(data)
        if self._size >= _ENOUGH:
            self._hand_over()

    def finish(self) -> None:
        """Wait until everything that was taken is hashed."""
        self._hand_over()
        with self._busy:
            pass

    def _hand_over(self) -> None:
        pieces, self._gathered, self._size = self._gathered, [], 0
        self._busy.acquire()
        self._work.put(pieces)

    def _run(self) -> None:
        while True:
            _hash_all(self._work.get())  # whose locals are gone while this waits
            self._busy.release()


@frozen
class Hasher:
    """Like hashlib's objects, but `update` returns before its piece is hashed."""

    _thread: HashThread
    _hash: Any

    def update(self, data: bytes) -> None:
        """Take a piece."""
        self._thread.take(self._hash, data)

    def hexdigest(self) -> str:
        """Return the checksum of all pieces."""
        self._thread.finish()
        digest: str = self._hash.hexdigest()
        return digest


def _hash_all(pieces: _Pieces) -> None:
    for hash_, data in pieces:
        hash_.update(data)


hash_thread = HashThread()
