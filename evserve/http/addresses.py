"""Which addresses only this network can reach, however they are wrapped up.

`ipaddress` calls 6to4 and NAT64 addresses global, but what they lead to is the IPv4 address
inside: RFC 3056 and RFC 6052.
"""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address


_NAT64 = IPv6Network("64:ff9b::/96")
_NAT64_LOCAL = IPv6Network("64:ff9b:1::/48")  # RFC 8215
_COMPATIBLE = IPv6Network("::/96")  # RFC 4291, section 2.5.5.1, deprecated


def is_public(address: str) -> bool:
    """Whether an IP address in text form is one of the public Internet."""
    try:
        return _is_public(ip_address(address))
    except ValueError:
        return False  # fe80::1%eth0 and the like


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address):
        inner = _inner(address)
        if inner is not None:
            return _is_public(inner)
        if address in _NAT64_LOCAL:
            return False
    return address.is_global and not address.is_multicast


def _inner(address: IPv6Address) -> IPv4Address | None:
    if address in _NAT64 or address in _COMPATIBLE:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)
