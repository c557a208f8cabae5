"""Host names as browsers read them (WHATWG URL, section 3.5): IDNA, IPv4 in all its spellings.

`http://0x7f.1/` and `http://2130706433/` are 127.0.0.1 to a browser. Reading them the same way
here means that what is checked is what is connected to.
"""

import re
from contextlib import suppress
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from urllib.parse import unquote_to_bytes

import idna

from evserve.http.errors import BadURL, brief


# Section 3.5, "forbidden domain code points", and everything beyond printable ASCII.
_FORBIDDEN = re.compile(r"[\x00-\x20\"#%/:<>?@\[\\\]^`{|}\x7f]|[^\x00-\x7f]")
_NUMBER = re.compile(r"0[xX][0-9A-Fa-f]*|[0-9]+")
_MAX_NAME, _MAX_LABEL = 253, 63  # RFC 1035, section 2.3.4
_BYTES, _BYTE = 4, 256


def parse_host(text: str) -> str:
    """Return the ASCII form of a host, an IPv6 address without its brackets; raises BadURL."""
    if text.startswith("["):
        return _ipv6(text)
    name = _ascii(text)
    if not name or _FORBIDDEN.search(name):
        raise BadURL(f"{brief(text)!r} is not a host name")
    labels = name.removesuffix(".").split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _ipv4(labels, text)
    if len(name) > _MAX_NAME + 1 or not all(0 < len(label) <= _MAX_LABEL for label in labels):
        raise BadURL(f"{brief(text)!r} is not a host name: a part of it is empty or too long")
    return name


def _ascii(text: str) -> str:
    try:
        if "%" in text:
            text = unquote_to_bytes(text.encode("utf-8", "surrogateescape")).decode()
        if text.isascii():
            return text.lower()
        try:
            return idna.encode(text.lower(), uts46=True).decode("ascii")
        except idna.InvalidCodepoint:
            return _with_symbols(text.lower())
    except (UnicodeError, idna.IDNAError) as error:
        raise BadURL(f"{brief(text)!r} is not a host name: {brief(str(error))}") from None


def _with_symbols(text: str) -> str:
    """IDNA 2008 knows no symbols such as a snowman; UTS 46, and so browsers, let them pass."""
    labels = idna.uts46_remap(text, std3_rules=False).split(".")
    return ".".join(
        label if label.isascii() else f"xn--{label.encode('punycode').decode('ascii')}"
        for label in labels
    )


def _ipv6(text: str) -> str:
    if text.endswith("]") and "%" not in text:  # a zone means nothing beyond this machine
        with suppress(AddressValueError):
            return str(IPv6Address(text[1:-1]))
    raise BadURL(f"{brief(text)!r} is not an IPv6 address")


def _ipv4(labels: list[str], text: str) -> str:
    """One to four numbers, decimal, octal or hexadecimal; the last one fills what is left."""
    *first, last = [_number(label) for label in labels]
    left = _BYTES - len(first)
    fits = left > 0 and all(0 <= number < _BYTE for number in first) and 0 <= last < _BYTE**left
    if not fits:
        raise BadURL(f"{brief(text)!r} is not an IPv4 address")
    return str(IPv4Address(bytes(first) + last.to_bytes(left, "big")))


def _number(label: str) -> int:
    """Return the value of a number as C writes it, -1 if it is none."""
    try:
        if label[:2] in ("0x", "0X"):
            return int(label[2:] or "0", 16)
        return int(label, 8 if label.startswith("0") else 10)
    except ValueError:
        return -1
