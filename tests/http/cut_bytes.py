"""Bytes in the pieces in which TCP may deliver them."""

from itertools import pairwise


def cut(data, places):
    """Return `data` in pieces, none empty, cut at `places`."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges) if a < b]
