"""URLs as browsers read them (WHATWG URL), cut down to what an HTTP client needs.

What a person pastes or a server puts into `Location` is rarely what RFC 3986 wants: it has
spaces, umlauts, backslashes, `..`. Everything here gives what a browser would have asked for.

Host names as browsers read them (WHATWG URL, section 3.5): IDNA, IPv4 in all its spellings.

`http://0x7f.1/` and `http://2130706433/` are 127.0.0.1 to a browser. Reading them the same way
here means that what is checked is what is connected to.
"""

import re
from contextlib import suppress
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from urllib.parse import quote, unquote_to_bytes

import idna
from attrs import field, frozen

from evserve.http.errors import BadURL, brief


DEFAULT_PORTS = {"http": 80, "https": 443}

# What needs no change at all, which is what nearly every URL looks like.
_PLAIN = re.compile(
    r"(https?)://([a-z0-9.-]+)(?::([0-9]{1,5}))?(/[A-Za-z0-9_~!$&()*+,;=:@?/.-]*)?"
)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
# Not a scheme but a host and a port.
_PLACE = re.compile(r"(?:localhost|[a-z0-9-]+(?:\.[a-z0-9-]+)+):[0-9]+(?:[/?#]|$)", re.IGNORECASE)
_AROUND = "".join(map(chr, range(0x21)))
_IGNORED = str.maketrans("", "", "\t\n\r")
# Beyond letters, digits and `_.-~`; section 1.3, the path and special-query percent-encode sets.
_PATH_SAFE = "%!$&'()*+,;=:@/[]|"
_QUERY_SAFE = "%!$&()*+,;=:@/[]|?^`{}\\"
_DOTS = {".": ".", "%2e": ".", "..": "..", ".%2e": "..", "%2e.": "..", "%2e%2e": ".."}
MAX_PORT = 0xFFFF
MAX_LENGTH = 0x10000  # characters; servers take 8,000 or so
_SPACE, _DELETE = 0x20, 0x7F


@frozen(cache_hash=True)
class Origin:
    """Where a request goes: scheme, ASCII host (no brackets), port."""

    scheme: str
    host: str
    port: int
    is_tls: bool = field(init=False, eq=False)
    authority: str = field(init=False, eq=False)  # `host`, `host:port`, `[::1]:port`

    def __attrs_post_init__(self) -> None:
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = self.port == DEFAULT_PORTS[self.scheme]
        object.__setattr__(self, "is_tls", self.scheme == "https")
        object.__setattr__(self, "authority", host if default else f"{host}:{self.port}")

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
        """Return the URL without fragment and credentials: what logs and rows may show."""
        return f"{self.origin}{self.target}"

    @property
    def identity(self) -> str:
        """What tells this URL from another: what `str` gives, and as whom it is asked for.

        Two accounts see different pages, and a password that was wrong is not asked with again.
        """
        if self.credentials is None:
            return str(self)
        user, password = (quote(part, "", errors="surrogateescape") for part in self.credentials)
        scheme, authority = self.origin.scheme, self.origin.authority
        return f"{scheme}://{user}:{password}@{authority}{self.target}"

    def join(self, reference: str) -> "URL":
        """Return what `reference` means on the page at this URL; raises BadURL."""
        reference = reference.strip(_AROUND).translate(_IGNORED)
        scheme = _SCHEME.fullmatch(reference)
        if scheme:
            # `http:page` is relative on an http page, as it was in RFC 1630.
            same = scheme[1].lower() == self.origin.scheme and scheme[2][:1] not in ("/", "\\")
            if not same:
                return parse_url(reference)
            reference = scheme[2]
        rest, hash_sign, fragment = reference.partition("#")
        joined = self._join_target(_slashes(rest))
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
            return URL(self.origin, _target(path + rest))
        folder = "" if rest.startswith("/") else path[: path.rindex("/") + 1]
        return URL(self.origin, _target(folder + rest))


def parse_url(text: str) -> URL:
    """Return the URL that `text` means; raises BadURL."""
    if len(text) > MAX_LENGTH:
        raise BadURL(f"longer than {MAX_LENGTH} characters")
    plain = _PLAIN.fullmatch(text)
    if plain and "/." not in text:
        scheme, host, port, target = plain.groups()
        return URL(_origin(scheme, host, port), target or "/")
    return _parse(text.strip(_AROUND).translate(_IGNORED))


def parse_location(base: URL, value: bytes) -> URL:
    """Return where a `Location` header leads; bytes that are not UTF-8 stay what they are."""
    url = base.join(value.decode("utf-8", "surrogateescape"))
    # RFC 9110, section 10.2.2: the fragment survives a redirect that names none.
    return url if url.fragment else URL(url.origin, url.target, base.fragment, url.credentials)


def _parse(text: str) -> URL:
    if not text:
        raise BadURL("it is empty")
    match = _SCHEME.fullmatch(text)
    scheme = match[1].lower() if match else ""
    if not match or (scheme not in DEFAULT_PORTS and _PLACE.match(text)):
        raise BadURL(
            f"{brief(text)!r} has no scheme: did you mean http://{brief(text.lstrip('/'))} ?"
        )
    if scheme not in DEFAULT_PORTS:
        raise BadURL(
            f"{brief(text)!r}: {brief(scheme)} is not a scheme known here, only http and https are"
        )
    rest, _, fragment = match[2].partition("#")
    rest = _slashes(rest).lstrip("/")
    end = min((rest.find(mark) for mark in "/?" if mark in rest), default=len(rest))
    userinfo, _, place = rest[:end].rpartition("@")
    host, port = _split_port(place)
    target = rest[end:]
    return URL(
        _origin(scheme, host, port),
        _target(target if target.startswith("/") else f"/{target}"),
        _encode(fragment, _QUERY_SAFE),
        _credentials(userinfo),
    )


@lru_cache(maxsize=4096)
def _origin(scheme: str, host: str, port: str | None) -> Origin:
    number = int(port) if port else DEFAULT_PORTS[scheme]
    if number > MAX_PORT:
        raise BadURL(f"{port} is not a port: the highest is {MAX_PORT}")
    return Origin(scheme, parse_host(host), number)


def _split_port(place: str) -> tuple[str, str | None]:
    host, colon, port = place.rpartition(":")
    if not colon or "]" in port:
        return place, None
    if port and not (port.isascii() and port.isdigit()):
        raise BadURL(f"{brief(port)!r} is not a port number")
    return host, port.lstrip("0")[:6] or ("0" if port else None)


def _credentials(userinfo: str) -> tuple[str, str] | None:
    if not userinfo:
        return None
    user, _, password = userinfo.partition(":")
    return _unquoted(user), _unquoted(password)


def _unquoted(text: str) -> str:
    try:
        data = unquote_to_bytes(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        raise BadURL("what stands before the @ holds half a character") from None
    if any(byte < _SPACE or byte == _DELETE for byte in data):  # RFC 7617, section 2
        raise BadURL("what stands before the @ holds a control character")
    return data.decode("utf-8", "surrogateescape")  # bytes that are not UTF-8 stay what they are


def _slashes(rest: str) -> str:
    path, question, query = rest.partition("?")
    return path.replace("\\", "/") + question + query


def _target(text: str) -> str:
    path, question, query = text.partition("?")
    encoded = _encode(_without_dots(path), _PATH_SAFE)
    return f"{encoded}?{_encode(query, _QUERY_SAFE)}" if question else encoded


def _encode(text: str, safe: str) -> str:
    try:
        return quote(text.encode("utf-8", "surrogateescape"), safe)
    except UnicodeEncodeError:
        raise BadURL(f"{brief(text)!r} holds half a character") from None


def _without_dots(path: str) -> str:
    if "/." not in path and "/%2" not in path:
        return path
    kept: list[str] = []
    *folders, last = path.split("/")[1:]
    for segment in folders:
        dots = _DOTS.get(segment.lower())
        if dots == "..":
            del kept[-1:]
        elif dots is None:
            kept.append(segment)
    dots = _DOTS.get(last.lower())
    if dots == "..":
        del kept[-1:]
    kept.append("" if dots else last)
    return "/" + "/".join(kept)


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
