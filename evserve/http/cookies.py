"""Cookies: RFC 6265 with what its revision (the draft rfc6265bis) adds from browsers.

The choices that it leaves to a client: cookies live as long as the jar. `SameSite` and `HttpOnly`
are ignored, for there are neither pages nor scripts. `Secure` means https, on the loopback
interface as well. No cookie is for a public suffix, such as `co.uk` or, from the list's private
section, `github.io`; the list is that of the installed `publicsuffixlist`.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from itertools import count
from math import inf
from time import time

from attrs import define, field
from publicsuffixlist import PublicSuffixList

from evserve.http.headers import Head
from evserve.http.url import URL


_MAX_PAIR, _MAX_ATTRIBUTE = 4096, 1024  # bytes; rfc6265bis, section 5.6
_MAX_LIFETIME = 400 * 24 * 3600  # seconds; section 5.5
_MAX_PER_DOMAIN = 180  # as in browsers
_MAX_SIZE = 64 * 1024 * 1024  # bytes of all cookies
_OVERHEAD = 600  # bytes of a cookie in memory beside its name, value and path

_BLANKS = b" \t"
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_INTEGER = re.compile(rb"-?[0-9]+")

# RFC 6265, section 5.1.1.
_DATE_DELIMITERS = re.compile(rb"[\x09\x20-\x2f\x3b-\x40\x5b-\x60\x7b-\x7e]+")
_TIME = re.compile(rb"([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?![0-9])")
_DAY = re.compile(rb"([0-9]{1,2})(?![0-9])")
_YEAR = re.compile(rb"([0-9]{2,4})(?![0-9])")
_MONTHS = b"jan feb mar apr may jun jul aug sep oct nov dec".split()
_FIRST_YEAR = 1601


@define(eq=False)
class _Cookie:
    name: bytes = field(repr=False)
    value: bytes = field(repr=False)
    path: str
    is_host_only: bool
    is_secure: bool
    expires: float  # seconds since the epoch
    created: int  # a number in the order of creation
    used: int  # likewise, when it was sent last

    @property
    def size(self) -> int:
        return len(self.name) + len(self.value) + len(self.path) + _OVERHEAD

    @property
    def key(self) -> tuple[bytes, str, bool]:
        """What identifies it among those of its domain."""
        return self.name, self.path, self.is_host_only

    def matches_path(self, path: str) -> bool:
        """Whether it is for `path` (section 5.1.4)."""
        own = self.path
        return path.startswith(own) and (
            own.endswith("/") or path[len(own) : len(own) + 1] in ("", "/")
        )


@define(eq=False)
class Cookies:
    """A cookie jar. What a request costs does not depend on the number of hosts.

    now: seconds since the epoch.  Of each domain, the 180 cookies that were used last are kept;
    of all, 64 MiB of the domains that were used last.
    """

    _now: Callable[[], float] = time
    # By domain, the one that was used last at the end.
    _domains: OrderedDict[str, dict[tuple[bytes, str, bool], _Cookie]] = field(
        factory=OrderedDict, init=False, repr=False
    )
    _size: int = field(default=0, init=False)
    _numbers: "count[int]" = field(factory=count, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        _suffixes()  # takes 40 ms, which later would hold up the reactor

    def header(self, url: URL) -> bytes | None:
        """Return the value of the Cookie header for a request to `url`."""
        if not self._domains:
            return None
        host, path, now, number = url.origin.host, _path(url), self._now(), next(self._numbers)
        found: list[_Cookie] = []
        for domain in _with_parents(host):
            cookies = self._domains.get(domain)
            if cookies is None:
                continue
            self._domains.move_to_end(domain)
            for cookie in tuple(cookies.values()):
                if cookie.expires <= now:
                    self._remove(domain, cookie)
                elif (
                    (domain == host or not cookie.is_host_only)
                    and (url.origin.is_tls or not cookie.is_secure)
                    and cookie.matches_path(path)
                ):
                    cookie.used = number
                    found.append(cookie)
        if not found:
            return None
        found.sort(key=lambda cookie: (-len(cookie.path), cookie.created))
        return b"; ".join(
            cookie.name + b"=" + cookie.value if cookie.name else cookie.value for cookie in found
        )

    def store(self, url: URL, head: Head) -> None:
        """Keep what the response from `url` sets."""
        for line in head.headers.all(b"set-cookie"):
            self._store(url, line)

    def _store(self, url: URL, line: bytes) -> None:
        """Obey a Set-Cookie header (sections 5.6 and 5.7), or ignore it."""
        pair, *rest = line.split(b";")
        name, equals, value = (part.strip(_BLANKS) for part in pair.partition(b"="))
        if not equals:
            name, value = b"", name
        if _CONTROL.search(line) or not (name or value) or len(name) + len(value) > _MAX_PAIR:
            return
        attributes = _parse_attributes(rest)
        is_tls, host = url.origin.is_tls, url.origin.host
        domain = _domain(host, attributes.get(b"domain", b""))
        if domain is None:
            return
        given_path = attributes.get(b"path", b"")
        number, now = next(self._numbers), self._now()
        cookie = _Cookie(
            name,
            value,
            given_path.decode("latin-1") if given_path.startswith(b"/") else _default_path(url),
            is_host_only=not domain,
            is_secure=b"secure" in attributes,
            expires=_expiry(attributes, now),
            created=number,
            used=number,
        )
        if cookie.is_secure and not is_tls:
            return
        prefix = (name or value).lower()
        is_bound = cookie.is_secure and cookie.is_host_only and given_path == b"/"
        if prefix.startswith(b"__secure-") and not (name and cookie.is_secure):
            return
        if prefix.startswith(b"__host-") and not (name and is_bound):
            return
        if not is_tls and self._would_hide_secure(cookie, host):
            return
        self._put(domain or host, cookie, now)

    def _would_hide_secure(self, cookie: _Cookie, host: str) -> bool:
        """Whether a cookie from plain HTTP would take the place of one from https.

        Looks at what requests to `host` would be sent: a search for other hosts of the cookie's
        domain would cost more, the more there are.
        """
        return any(
            other.is_secure and other.name == cookie.name and other.matches_path(cookie.path)
            for domain in _with_parents(host)
            for other in self._domains.get(domain, {}).values()
        )

    def _put(self, domain: str, cookie: _Cookie, now: float) -> None:
        old = self._domains.get(domain, {}).get(cookie.key)
        if old is not None:
            cookie.created = old.created
            self._remove(domain, old)
        if cookie.expires <= now:
            return
        cookies = self._domains.setdefault(domain, {})
        self._domains.move_to_end(domain)
        cookies[cookie.key] = cookie
        self._size += cookie.size
        if len(cookies) > _MAX_PER_DOMAIN:
            self._remove(domain, min(cookies.values(), key=lambda each: each.used))
        while self._size > _MAX_SIZE:
            _, forgotten = self._domains.popitem(last=False)
            self._size -= sum(each.size for each in forgotten.values())

    def _remove(self, domain: str, cookie: _Cookie) -> None:
        cookies = self._domains[domain]
        del cookies[cookie.key]
        self._size -= cookie.size
        if not cookies:
            del self._domains[domain]


def parse_date(text: bytes) -> float | None:
    """Return the seconds since the epoch that an `Expires` means, or None.

    The algorithm of RFC 6265, section 5.1.1, understands every form that servers were seen to
    send, and ignores the time zone.
    """
    time_of_day = day = month = year = None
    for token in _DATE_DELIMITERS.split(text):
        if time_of_day is None and (match := _TIME.match(token)):
            time_of_day = match.groups()
        elif day is None and (match := _DAY.match(token)):
            day = int(match[1])
        elif month is None and token[:3].lower() in _MONTHS:
            month = _MONTHS.index(token[:3].lower()) + 1
        elif year is None and (match := _YEAR.match(token)):
            year = int(match[1])
    if time_of_day is None or day is None or month is None or year is None:
        return None
    if year < 100:  # noqa: PLR2004 # two digits
        year += 1900 if year >= 70 else 2000  # noqa: PLR2004 # section 5.1.1
    hour, minute, second = map(int, time_of_day)
    try:
        date = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:  # 30 February, or 24:00:00
        return None
    return date.timestamp() if year >= _FIRST_YEAR else None


def _parse_attributes(parts: list[bytes]) -> dict[bytes, bytes]:
    """Return the last attribute of each name that is not too long, and not a malformed time."""
    found: dict[bytes, bytes] = {}
    for part in parts:
        name, _, value = (each.strip(_BLANKS) for each in part.partition(b"="))
        name = name.lower()
        if (
            len(value) > _MAX_ATTRIBUTE
            or (name == b"max-age" and not _INTEGER.fullmatch(value))
            or (name == b"expires" and parse_date(value) is None)
        ):
            continue
        found[name] = value
    return found


def _expiry(attributes: dict[bytes, bytes], now: float) -> float:
    """Return when a cookie expires; Max-Age wins over Expires."""
    if b"max-age" in attributes:
        seconds = int(attributes[b"max-age"])
        return now + min(seconds, _MAX_LIFETIME) if seconds > 0 else -inf
    date = parse_date(attributes.get(b"expires", b""))
    return inf if date is None else min(date, now + _MAX_LIFETIME)


def _domain(host: str, attribute: bytes) -> str | None:
    """Return the domain of a cookie, "" if it is for `host` only, None if it may not be set."""
    if not attribute.isascii():
        return None
    domain = attribute.decode("ascii").lower().removeprefix(".")
    if domain == f"[{host}]":  # an IPv6 address
        domain = host
    if not domain:
        return ""
    is_public_suffix = _suffixes().is_public(domain.removesuffix("."))
    if domain == host:
        return "" if is_public_suffix else domain
    is_address = ":" in host or host.rpartition(".")[2].isdigit()
    if is_address or is_public_suffix or not host.endswith(f".{domain}"):
        return None
    return domain


@cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList()


def _with_parents(host: str) -> Iterator[str]:
    """Yield `host` and each domain that it is in. An address is in none that has cookies."""
    dot = "."
    while dot:
        yield host
        _, dot, host = host.partition(".")


def _path(url: URL) -> str:
    return url.target.partition("?")[0]


def _default_path(url: URL) -> str:
    path = _path(url)
    return path[: path.rindex("/")] or "/"
