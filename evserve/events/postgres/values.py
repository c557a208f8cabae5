"""Values as Postgres sends and receives them in binary: numbers, and arrays of one dimension.

psycopg can encode them too, one Python call for each element; here an array is one `pack`.
"""

from collections.abc import Sequence
from struct import Struct, pack
from typing import Final

from psycopg.adapt import Transformer
from psycopg.pq import Format
from psycopg.pq.abc import PGresult


BYTEA: Final = 17
INT8: Final = 20
INT4: Final = 23
TEXT: Final = 25
FLOAT8: Final = 701
"""Object ids of types, which never change (pg_type.dat)."""


int8: Final = Struct("!q").pack
int4: Final = Struct("!i").pack
float8: Final = Struct("!d").pack

_HEADER: Final = Struct("!iiiii").pack  # dimensions, has nulls, type, length, first index
_NO_ELEMENTS: Final = Struct("!iii").pack


def int8_array(values: Sequence[int]) -> bytes:
    """Return a `bigint[]`."""
    return _fixed_size(values, INT8, 8, "iq")


def int4_array(values: Sequence[int]) -> bytes:
    """Return an `integer[]`."""
    return _fixed_size(values, INT4, 4, "ii")


def float8_array(values: Sequence[float]) -> bytes:
    """Return a `double precision[]`."""
    return _fixed_size(values, FLOAT8, 8, "id")


def text_array(values: Sequence[bytes]) -> bytes:
    """Return a `text[]` of what is encoded already."""
    return _variable_size(values, TEXT)


def bytea_array(values: Sequence[bytes]) -> bytes:
    """Return a `bytea[]`."""
    return _variable_size(values, BYTEA)


def _fixed_size(values: Sequence[float], oid: int, size: int, code: str) -> bytes:
    count = len(values)
    if not count:
        return _NO_ELEMENTS(0, 0, oid)
    flat: list[float] = [size] * (2 * count)
    flat[1::2] = values
    return pack(f"!iiiii{code * count}", 1, 0, oid, count, 1, *flat)


def _variable_size(values: Sequence[bytes], oid: int) -> bytes:
    if not values:
        return _NO_ELEMENTS(0, 0, oid)
    parts = [_HEADER(1, 0, oid, len(values), 1)]
    for value in values:
        parts.append(int4(len(value)))
        parts.append(value)
    return b"".join(parts)


class Rows:
    """Reads the rows of a binary result whose columns have the types `oids`, as tuples."""

    __slots__ = ("_transformer",)

    def __init__(self, *oids: int) -> None:
        self._transformer = Transformer()
        self._transformer.set_loader_types(oids, Format.BINARY)

    def __call__(self, result: PGresult) -> list[tuple[object, ...]]:
        self._transformer.set_pgresult(result, set_loaders=False)
        return self._transformer.load_rows(0, result.ntuples, tuple)
