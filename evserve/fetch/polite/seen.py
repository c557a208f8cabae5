"""Which URLs were there before: a million of them in 20 MiB, which a set of strings cannot do."""

from array import array

from attrs import define, field


_SHARDS = 256
_START = 64  # slots of a new shard; a power of two
_MASK = 2**64 - 1


def _new_shards() -> "list[array[int]]":
    return [array("Q", bytes(8 * _START)) for _ in range(_SHARDS)]


@define(eq=False, repr=False)
class Seen:
    """A set that keeps 64 bits of each text.

    Two different texts are taken for one with a probability of n*n / 2**65: 3 in 10**8 for a
    million. Python seeds `hash` anew in each process, so nobody can prepare such a pair.
    """

    _shards: "list[array[int]]" = field(factory=_new_shards, init=False)
    _counts: list[int] = field(factory=lambda: [0] * _SHARDS, init=False)

    def __len__(self) -> int:
        return sum(self._counts)

    def add(self, text: str) -> bool:
        """Keep `text`; return whether it is new."""
        key = (hash(text) & _MASK) or 1  # 0 marks a free slot
        number = key & (_SHARDS - 1)
        shard = self._shards[number]
        slot = _find(shard, key)
        if shard[slot]:
            return False
        shard[slot] = key
        self._counts[number] += 1
        # Shards grow one at a time, so that growing never takes long.
        if self._counts[number] * 4 > len(shard) * 3:
            self._shards[number] = _grown(shard)
        return True

    def __contains__(self, text: str) -> bool:
        key = (hash(text) & _MASK) or 1
        shard = self._shards[key & (_SHARDS - 1)]
        return bool(shard[_find(shard, key)])


def _find(shard: "array[int]", key: int) -> int:
    """Return the slot that holds `key`, or the free one where it belongs."""
    mask = len(shard) - 1
    slot = (key >> 8) & mask
    while shard[slot] not in (0, key):
        slot = (slot + 1) & mask
    return slot


def _grown(shard: "array[int]") -> "array[int]":
    grown = array("Q", bytes(16 * len(shard)))
    for key in shard:
        if key:
            grown[_find(grown, key)] = key
    return grown
