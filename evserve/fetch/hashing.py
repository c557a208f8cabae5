"""Checksums of large bodies, taken by a thread while the reactor reads on and writes.

SHA-256 of a body takes as long as receiving and saving it. `hashlib` lets go of the interpreter
while it works, so that a second core can have it.
"""

from hashlib import sha256
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any

from attrs import Factory, define, field


_ENOUGH = 1024 * 1024  # bytes to wake a thread for
_KEPT = 2 * _ENOUGH

_Work = tuple[Any, list[bytes], Lock]


@define(eq=False)
class Hasher:
    """Like hashlib's objects, but `update` returns before its piece is hashed.

    One mebibyte is hashed while the next is gathered; whoever is faster than that waits.
    """

    _work: "SimpleQueue[_Work]"
    _hash: Any = Factory(sha256)
    _busy: Lock = Factory(Lock)
    _gathered: list[bytes] = Factory(list)
    _size: int = 0

    def update(self, data: bytes) -> None:
        """Take a piece."""
        self._gathered.append(data)
        self._size += len(data)
        if self._size >= _ENOUGH:
            self._hand_over()

    def hexdigest(self) -> str:
        """Return the checksum of all pieces, waiting for those that are not hashed yet."""
        self._hand_over()
        with self._busy:
            digest: str = self._hash.hexdigest()
        return digest

    def _hand_over(self) -> None:
        pieces, self._gathered, self._size = self._gathered, [], 0
        self._busy.acquire()
        self._work.put((self._hash, pieces, self._busy))


@define(eq=False)
class HashThread:
    """Makes hashers that share one thread; it begins with the first and ends with the process."""

    _work: "SimpleQueue[_Work]" = field(factory=SimpleQueue, init=False)
    _thread: Thread | None = field(default=None, init=False)

    def hasher(self, hash_: Any = None) -> Hasher:
        """Return one that feeds `hash_`, or a new SHA-256."""
        if self._thread is None:
            # glibc keeps freed blocks up to twice the size of the largest one so far. If it gave
            # the pieces' memory back, every page of the next ones would be a fault.
            bytes(_KEPT)
            self._thread = Thread(target=self._run, name="evserve-fetch-hash", daemon=True)
            self._thread.start()
        return Hasher(self._work, sha256() if hash_ is None else hash_)

    def _run(self) -> None:
        while True:
            _hash_all(*self._work.get())  # whose locals are gone while this waits


def _hash_all(hash_: Any, pieces: list[bytes], busy: Lock) -> None:
    for piece in pieces:
        hash_.update(piece)
    busy.release()


hash_thread = HashThread()
