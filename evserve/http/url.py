"""URLs as browsers read them (WHATWG URL standard), reduced to what an HTTP client needs.

What people paste and servers put into `Location` is often not what RFC 3986 allows: it has
spaces, umlauts, backslashes, `..`. The functions here return what a browser would request.
`http://0x7f.1/` and `http://2130706433/` are 127.0.0.1 to a browser, and here as well, so that
the address that is checked is the address that is connected to.
"""

import re
from contextlib import suppress
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from urllib.parse import quote, unquote_to_bytes

import idna
from attrs import field, frozen

from evserve.http.errors import BadURL, shorten
from evserve.options import MAX_PORT


DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_LENGTH = 0x10000  # characters; servers accept about 8,000

# URLs that need no change at all, as nearly all of them are.
_PLAIN = re.compile(
    r"(https?)://([a-z0-9.-]+)(?::([0-9]{1,5}))?(/[A-Za-z0-9_~!$&()*+,;=:@?/.-]*)?"
)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
# A host and a port, although they look like a scheme and a path.
_HOST_PORT = re.compile(
    r"(?:localhost|[a-z0-9-]+(?:\.[a-z0-9-]+)+):[0-9]+(?:[/?#]|$)", re.IGNORECASE
)
_STRIPPED = "".join(map(chr, range(0x21)))  # from both ends
_REMOVED = str.maketrans("", "", "\t\n\r")  # from everywhere
# Beyond letters, digits and `_.-~`; section 1.3, the path and special-query percent-encode sets.
_PATH_SAFE = "%!$&'()*+,;=:@/[]|"
_QUERY_SAFE = "%!$&()*+,;=:@/[]|?^`{}\\"
_DOT_SEGMENTS = {".": ".", "%2e": ".", "..": "..", ".%2e": "..", "%2e.": "..", "%2e%2e": ".."}
_SPACE, _DELETE = 0x20, 0x7F

# Hosts: section 3.5, "forbidden domain code points", and everything beyond printable ASCII.
_FORBIDDEN = re.compile(r"[\x00-\x20\"#%/:<>?@\[\\\]^`{|}\x7f]|[^\x00-\x7f]")
_NUMBER = re.compile(r"0[xX][0-9A-Fa-f]*|[0-9]+")
_MAX_NAME, _MAX_LABEL = 253, 63  # RFC 1035, section 2.3.4
_BYTE = range(256)


@frozen(cache_hash=True)
class Origin:
    """The scheme, ASCII host (no brackets) and port of a server."""

    scheme: str
    host: str
    port: int
    is_tls: bool = field(init=False, eq=False)
    authority: str = field(init=False, eq=False)  # `host`, `host:port`, `[::1]:port`

    def __attrs_post_init__(self) -> None:
        host = f"[{self.host}]" if ":" in self.host else self.host
        is_default = self.port == DEFAULT_PORTS[self.scheme]
        object.__setattr__(self, "is_tls", self.scheme == "https")
        object.__setattr__(self, "authority", host if is_default else f"{host}:{self.port}")

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


@frozen
class URL:
    """An absolute http or https URL; `target` is its path and query, percent-encoded."""

    origin: Origin
    target: str
    fragment: str = ""
    credentials: tuple[str, str] | None = None  # of `http://user:password@host/`

    def __str__(self) -> str:
        """Return the URL without fragment and credentials, fit for logs and results."""
        return f"{self.origin}{self.target}"

    @property
    def identity(self) -> str:
        """The URL with its credentials, which tells two accounts' views of a page apart."""
        if self.credentials is None:
            return str(self)
        user, password = (quote(part, "", errors="surrogateescape") for part in self.credentials)
        scheme, authority = self.origin.scheme, self.origin.authority
        return f"{scheme}://{user}:{password}@{authority}{self.target}"

    def join(self, reference: str) -> "URL":
        """Return the URL that `reference` means on a page at this URL. Raises BadURL."""
        reference = reference.strip(_STRIPPED).translate(_REMOVED)
        scheme = _SCHEME.fullmatch(reference)
        if scheme:
            # `http:page` is relative on an http page, as it was in RFC 1630.
            same = scheme[1].lower() == self.origin.scheme and scheme[2][:1] not in ("/", "\\")
            if not same:
                return parse_url(reference)
            reference = scheme[2]
        rest, hash_sign, fragment = reference.partition("#")
        joined = self._join_target(_with_slashes(rest))
        if hash_sign or not rest:
            return URL(joined.origin, joined.target, _encode(fragment, _QUERY_SAFE))
        return joined

    def _join_target(self, rest: str) -> "URL":
        if rest.startswith("//"):
            return parse_url(f"{self.origin.scheme}:{rest}")
        path = self.target.partition("?")[0]
        if not rest:
            return URL(self.origin, self.target)
        if rest.startswith("?"):
            return URL(self.origin, _encode_target(path + rest))
        folder = "" if rest.startswith("/") else path[: path.rindex("/") + 1]
        return URL(self.origin, _encode_target(folder + rest))


def parse_url(text: str) -> URL:
    """Return the URL that `text` means. Raises BadURL."""
    if len(text) > MAX_LENGTH:
        raise BadURL(f"longer than {MAX_LENGTH} characters")
    plain = _PLAIN.fullmatch(text)
    if plain and "/." not in text:
        scheme, host, port, target = plain.groups()
        return URL(_make_origin(scheme, host, port), target or "/")
    return _parse_any(text.strip(_STRIPPED).translate(_REMOVED))


def parse_location(base: URL, value: bytes) -> URL:
    """Return the URL that a Location header leads to. Bytes that are not UTF-8 are kept."""
    url = base.join(value.decode("utf-8", "surrogateescape"))
    # RFC 9110, section 10.2.2: a redirect without a fragment keeps that of the request.
    return url if url.fragment else URL(url.origin, url.target, base.fragment, url.credentials)


def parse_host(text: str) -> str:
    """Return the ASCII form of a host, an IPv6 address without its brackets. Raises BadURL."""
    if text.startswith("["):
        if text.endswith("]") and "%" not in text:  # a zone has no meaning for other machines
            with suppress(AddressValueError):
                return str(IPv6Address(text[1:-1]))
        raise BadURL(f"{shorten(text)!r} is not an IPv6 address")
    name = _to_ascii(text)
    if not name or _FORBIDDEN.search(name):
        raise BadURL(f"{shorten(text)!r} is not a host name")
    labels = name.removesuffix(".").split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _parse_ipv4(labels, text)
    if len(name) > _MAX_NAME + 1 or not all(0 < len(label) <= _MAX_LABEL for label in labels):
        raise BadURL(f"{shorten(text)!r} is not a host name: a part of it is empty or too long")
    return name


def _parse_any(text: str) -> URL:
    if not text:
        raise BadURL("the URL is empty")
    match = _SCHEME.fullmatch(text)
    scheme = match[1].lower() if match else ""
    if not match or (scheme not in DEFAULT_PORTS and _HOST_PORT.match(text)):
        raise BadURL(
            f"{shorten(text)!r} has no scheme (did you mean http://{shorten(text.lstrip('/'))} ?)"
        )
    if scheme not in DEFAULT_PORTS:
        raise BadURL(
            f"{shorten(text)!r}: unsupported scheme {shorten(scheme)} (use http or https)"
        )
    rest, _, fragment = match[2].partition("#")
    rest = _with_slashes(rest).lstrip("/")
    end = min((rest.find(mark) for mark in "/?" if mark in rest), default=len(rest))
    userinfo, _, host_port = rest[:end].rpartition("@")
    user, _, password = userinfo.partition(":")
    target = rest[end:]
    return URL(
        _make_origin(scheme, *_split_port(host_port)),
        _encode_target(target if target.startswith("/") else f"/{target}"),
        _encode(fragment, _QUERY_SAFE),
        (_unquote(user), _unquote(password)) if userinfo else None,
    )


@lru_cache(maxsize=4096)
def _make_origin(scheme: str, host: str, port: str | None) -> Origin:
    number = int(port) if port else DEFAULT_PORTS[scheme]
    if number > MAX_PORT:
        raise BadURL(f"port {port} is above {MAX_PORT}")
    return Origin(scheme, parse_host(host), number)


def _split_port(text: str) -> tuple[str, str | None]:
    host, colon, port = text.rpartition(":")
    if not colon or "]" in port:
        return text, None
    if port and not (port.isascii() and port.isdigit()):
        raise BadURL(f"{shorten(port)!r} is not a port number")
    return host, port.lstrip("0")[:6] or ("0" if port else None)


def _unquote(text: str) -> str:
    # The text is secret: messages do not quote it.
    try:
        data = unquote_to_bytes(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        raise BadURL("the user name or password contains a lone surrogate") from None
    if any(byte < _SPACE or byte == _DELETE for byte in data):  # RFC 7617, section 2
        raise BadURL("the user name or password contains a control character")
    return data.decode("utf-8", "surrogateescape")


def _with_slashes(rest: str) -> str:
    path, question, query = rest.partition("?")
    return path.replace("\\", "/") + question + query


def _encode_target(text: str) -> str:
    path, question, query = text.partition("?")
    encoded = _encode(_resolve_dots(path), _PATH_SAFE)
    return f"{encoded}?{_encode(query, _QUERY_SAFE)}" if question else encoded


def _encode(text: str, safe: str) -> str:
    try:
        return quote(text.encode("utf-8", "surrogateescape"), safe)
    except UnicodeEncodeError:
        raise BadURL(f"{shorten(text)!r} contains a lone surrogate") from None


def _resolve_dots(path: str) -> str:
    if "/." not in path and "/%2" not in path:
        return path
    kept: list[str] = []
    *folders, last = path.split("/")[1:]
    for segment in folders:
        dots = _DOT_SEGMENTS.get(segment.lower())
        if dots == "..":
            del kept[-1:]
        elif dots is None:
            kept.append(segment)
    dots = _DOT_SEGMENTS.get(last.lower())
    if dots == "..":
        del kept[-1:]
    kept.append("" if dots else last)
    return "/" + "/".join(kept)


def _to_ascii(text: str) -> str:
    try:
        if "%" in text:
            text = unquote_to_bytes(text.encode("utf-8", "surrogateescape")).decode()
        text = text.lower()
        if text.isascii():
            return text
        try:
            return idna.encode(text, uts46=True).decode("ascii")
        except idna.InvalidCodepoint:
            # IDNA 2008 has no symbols such as a snowman; UTS 46, and so browsers, accept them.
            labels = idna.uts46_remap(text, std3_rules=False).split(".")
            return ".".join(
                label if label.isascii() else f"xn--{label.encode('punycode').decode('ascii')}"
                for label in labels
            )
    except (UnicodeError, idna.IDNAError) as error:
        raise BadURL(f"{shorten(text)!r} is not a host name: {shorten(str(error))}") from None


def _parse_ipv4(labels: list[str], text: str) -> str:
    """Read one to four numbers in decimal, octal or hexadecimal; the last fills what is left."""
    *first, last = [_parse_number(label) for label in labels]
    left = 4 - len(first)  # bytes
    is_valid = left > 0 and all(number in _BYTE for number in first) and 0 <= last < 256**left
    if not is_valid:
        raise BadURL(f"{shorten(text)!r} is not an IPv4 address")
    return str(IPv4Address(bytes(first) + last.to_bytes(left, "big")))


def _parse_number(label: str) -> int:
    """Return a number in C notation, or -1 if it is not one."""
    try:
        if label[:2] in ("0x", "0X"):
            return int(label[2:] or "0", 16)
        return int(label, 8 if label.startswith("0") else 10)
    except ValueError:
        return -1
