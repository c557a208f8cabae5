"""Protection of a loopback port against DNS rebinding.

A page of any web site may point its own name at 127.0.0.1 and then read, as its "own" site, what
a browser can reach there. The Host header gives it away: the name in it is not ours.
"""

import re
from collections.abc import Iterable
from ipaddress import IPv6Address, ip_address


_HOST = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(:\d{1,5})?")  # RFC 9110, 7.2
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


def is_own_host(headers: Iterable[str], reached: str | None) -> bool:
    """Say whether every Host header of a request names the address that the client reached.

    reached: the server's address of the connection; None if it has none (a UNIX socket). Only on
    loopback is a name refused: elsewhere the network decides who comes near.
    """
    if reached is None or not _is_loopback(reached):
        return True
    return all(_host_of(header) in _LOCAL | {reached} for header in headers)


def _host_of(header: str) -> str | None:
    match = _HOST.fullmatch(header.strip())
    return match["host"].strip("[]").lower() if match else None


def _is_loopback(address: str) -> bool:
    parsed = ip_address(address.partition("%")[0])
    if isinstance(parsed, IPv6Address):
        return (parsed.ipv4_mapped or parsed).is_loopback
    return parsed.is_loopback
