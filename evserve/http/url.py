"""URLs as browsers read them (WHATWG URL standard), reduced to what an HTTP client needs.

What people paste and servers put into `Location` is often not what RFC 3986 allows: it has
spaces, umlauts, backslashes, `..`. The functions here return what a browser would request.
`http://0x7f.1/` and `http://2130706433/` are 127.0.0.1 to a browser, and here as well, so that
the address that is checked is the address that is connected to.

`ada_url`, the parser of Node.js, follows the standard and UTS 46. This module is stricter in
three ways: other schemes than http and https, host names that DNS cannot hold (an empty label, or
one that is too long), and control characters in a user name or password are errors.
"""

import re
from functools import lru_cache
from urllib.parse import quote, unquote_to_bytes

from ada_url import join_url, normalize_url
from attrs import define, evolve, field, frozen

from evserve.http.errors import BadURL, shorten
from evserve.options import MAX_PORT


DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_LENGTH = 0x10000  # characters; servers accept about 8,000

# URLs that need no change at all, as nearly all of them are.
_PLAIN = re.compile(
    r"(https?)://([a-z0-9.-]+)(?::([0-9]{1,5}))?(/[A-Za-z0-9_~!$&()*+,;=:@?/.-]*)?"
)
# Names that `ada_url` would not change: at the end is no number.
_PLAIN_NAME = re.compile(r"(?:[a-z0-9-]+\.)*[a-z][a-z0-9-]*")
# What `ada_url` returns for http and https: scheme, user name and password, host, port, target,
# fragment.
_NORMALIZED = re.compile(
    r"(https?)://(?:([^@/]*)@)?(\[[^\]]*\]|[^:/]*)(?::([0-9]+))?(/[^#]*)(?:#(.*))?"
)
_UNDECODED = re.compile("[\udc80-\udcff]")  # bytes that were not UTF-8 (PEP 383)

# Only to say what is wrong with a text.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_AUTHORITY = re.compile(r"(?:https?:)?[/\\]*([^/\\?#]*)", re.IGNORECASE)
# A host and a port, although they look like a scheme and a path.
_HOST_PORT = re.compile(
    r"(?:localhost|[a-z0-9-]+(?:\.[a-z0-9-]+)+):[0-9]+(?:[/?#]|$)", re.IGNORECASE
)
_USER = re.compile(r"^((?:[a-z0-9+.-]+:)?[/\\]+)?[^/\\?#]*@", re.IGNORECASE)
_STRIPPED = "".join(map(chr, range(0x21)))  # from both ends
_REMOVED = str.maketrans("", "", "\t\n\r")  # from everywhere

_MAX_NAME, _MAX_LABEL = 253, 63  # RFC 1035, section 2.3.4
_SPACE, _DELETE = 0x20, 0x7F


@frozen(cache_hash=True)
class Origin:
    """The scheme, ASCII host (no brackets) and port of a server."""

    scheme: str
    host: str
    port: int
    is_tls: bool = field(init=False, eq=False)
    authority: str = field(init=False, eq=False)  # `host`, `host:port`, `[::1]:port`
    text: str = field(init=False, eq=False)  # `scheme://authority`

    def __attrs_post_init__(self) -> None:
        host = f"[{self.host}]" if ":" in self.host else self.host
        is_default = self.port == DEFAULT_PORTS[self.scheme]
        object.__setattr__(self, "is_tls", self.scheme == "https")
        authority = host if is_default else f"{host}:{self.port}"
        object.__setattr__(self, "authority", authority)
        object.__setattr__(self, "text", f"{self.scheme}://{authority}")

    def __str__(self) -> str:
        return self.text


@define(unsafe_hash=True)  # not frozen, which would make each one twice as expensive
class URL:
    """An absolute http or https URL; `target` is its path and query, percent-encoded."""

    origin: Origin
    target: str
    fragment: str | None = None  # percent-encoded; "" after a `#` that ends the URL
    credentials: tuple[str, str] | None = None  # of `http://user:password@host/`

    def __str__(self) -> str:
        """Return the URL without fragment and credentials, fit for logs and results."""
        return self.origin.text + self.target

    @property
    def identity(self) -> str:
        """The URL with its credentials, which tells two accounts' views of a page apart."""
        if self.credentials is None:
            return str(self)
        user, password = (quote(part, "", errors="surrogateescape") for part in self.credentials)
        scheme, authority = self.origin.scheme, self.origin.authority
        return f"{scheme}://{user}:{password}@{authority}{self.target}"

    def join(self, reference: str) -> "URL":
        """Return the URL that `reference` means on a page at this URL. Raises BadURL.

        A relative reference keeps the credentials of the page.
        """
        return _parse_any(reference, self.identity)


def parse_url(text: str) -> URL:
    """Return the URL that `text` means. Raises BadURL."""
    if len(text) <= MAX_LENGTH:
        plain = _PLAIN.fullmatch(text)
        if plain and "/." not in text:
            scheme, host, port, target = plain.groups()
            return URL(_make_origin(scheme, host, port), target or "/")
    return _parse_any(text)


def parse_location(base: URL, value: bytes) -> URL:
    """Return the URL that a Location header leads to. Bytes that are not UTF-8 are kept."""
    url = base.join(value.decode("utf-8", "surrogateescape"))
    # RFC 9110, section 10.2.2: a redirect without a fragment keeps that of the request.
    return url if url.fragment is not None else evolve(url, fragment=base.fragment)


def _parse_any(text: str, base: str | None = None) -> URL:
    if len(text) > MAX_LENGTH:
        raise BadURL(f"longer than {MAX_LENGTH} characters")
    if not text.isascii():
        text = _UNDECODED.sub(lambda match: f"%{ord(match[0]) - 0xDC00:02X}", text)
    scheme, userinfo, host, port, target, fragment = _normalize(text, base)
    return URL(
        _make_origin(scheme, host, port),
        target,
        fragment,
        _parse_userinfo(userinfo) if userinfo else None,
    )


@lru_cache(maxsize=4096)
def _make_origin(scheme: str, host: str, port: str | None) -> Origin:
    if port is not None or not _PLAIN_NAME.fullmatch(host):
        suffix = "" if port is None else f":{port}"
        _, _, host, port, *_ = _normalize(f"{scheme}://{host}{suffix}")
    if host.startswith("["):
        host = host[1:-1]
    elif len(host) > _MAX_NAME + 1 or not all(
        0 < len(label) <= _MAX_LABEL for label in host.removesuffix(".").split(".")
    ):
        raise BadURL(f"{shorten(host)!r} is not a host name: a part of it is empty or too long")
    return Origin(scheme, host, DEFAULT_PORTS[scheme] if port is None else int(port))


def _normalize(text: str, base: str | None = None) -> tuple[str, ...]:
    """Return the groups of `_NORMALIZED`; some are None."""
    try:
        normalized = normalize_url(text) if base is None else join_url(base, text)
    except ValueError:
        normalized = ""
    match = _NORMALIZED.fullmatch(normalized)
    if match is None:
        raise BadURL(
            _explain(text.strip(_STRIPPED).translate(_REMOVED), has_base=base is not None)
        )
    return match.groups()


def _explain(text: str, *, has_base: bool) -> str:
    """Return what is wrong with `text`, without the user name and password in it."""
    if not text:
        return "the URL is empty"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "the URL contains a lone surrogate"
    found = _SCHEME.match(text)
    scheme = found[1].lower() if found else ""
    shown = shorten(_USER.sub(r"\1...@", text))
    if scheme not in DEFAULT_PORTS:
        if not has_base and (not found or _HOST_PORT.match(text)):
            return f"{shown!r} has no scheme (did you mean http://{shown.lstrip('/')} ?)"
        if found:
            return f"{shown!r}: unsupported scheme {shorten(scheme)} (use http or https)"
    authority = _AUTHORITY.match(text)
    place = authority[1].rpartition("@")[2] if authority else ""
    host, colon, port = place.rpartition(":")
    if not colon or "]" in port:
        return f"{shorten(place)!r} is not a host name or an address"
    if not (port.isascii() and port.isdigit()):
        return f"the port after {shorten(host)!r} is not a number"  # but maybe a password
    if len(port.lstrip("0")) > len(str(MAX_PORT)) or int(port) > MAX_PORT:
        return f"port {shorten(port)} is above {MAX_PORT}"
    return f"{shorten(host)!r} is not a host name or an address"


def _parse_userinfo(text: str) -> tuple[str, str]:
    user, _, password = text.partition(":")
    return _unquote(user), _unquote(password)


def _unquote(text: str) -> str:
    data = unquote_to_bytes(text)
    if any(byte < _SPACE or byte == _DELETE for byte in data):  # RFC 7617, section 2
        # The text is secret: the message does not quote it.
        raise BadURL("the user name or password contains a control character")
    return data.decode("utf-8", "surrogateescape")
