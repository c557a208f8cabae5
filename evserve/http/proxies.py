"""Which proxy a request goes through: as options say, or the environment in curl's spelling."""

import re
from collections.abc import Mapping
from ipaddress import ip_address, ip_network

from attrs import frozen

from evserve.http.auth import Auth
from evserve.http.errors import BadURL, ProxyFailed
from evserve.http.url import DEFAULT_PORTS, MAX_PORT, URL, Origin, parse_url


_CURLS_PORT = 1080
_PORT = re.compile(r":([^:@\]]+)$")  # of an authority


@frozen(cache_hash=True)
class Proxy:
    """A proxy, spoken to over TLS if its origin says https."""

    origin: Origin
    authorization: bytes | None = None  # the value of Proxy-Authorization


@frozen
class Proxies:
    """The proxies by scheme, and the hosts that are reached without."""

    http: Proxy | None = None
    https: Proxy | None = None
    exempt: tuple[str, ...] = ()

    def choose(self, origin: Origin) -> Proxy | None:
        """Return the proxy for requests to `origin`."""
        proxy = self.https if origin.is_tls else self.http
        if proxy is None or any(_matches(entry, origin) for entry in self.exempt):
            return None
        return proxy


NO_PROXIES = Proxies()


def parse_proxy(text: str) -> Proxy:
    """Return the proxy at `[http[s]://][user:password@]host[:port]`; raises ProxyFailed.

    Without a port it is 1080, or 443 with https, as curl has it. Messages hold no password.
    """
    scheme, rest = _split_scheme(text)
    if scheme not in DEFAULT_PORTS:
        raise _unusable(text, f"{scheme} is not a scheme for proxies here, http and https are")
    place = re.split(r"[/?#]", rest)[0]
    port = _PORT.search(place)
    if not port:
        default = _CURLS_PORT if scheme == "http" else DEFAULT_PORTS[scheme]
        place = f"{place.removesuffix(':')}:{default}"
    elif not (re.fullmatch(r"[0-9]{1,5}", port[1]) and 0 < int(port[1]) <= MAX_PORT):
        raise _unusable(text, "its port is not a number from 1 to 65535")
    try:
        url = parse_url(f"{scheme}://{place}/")
    except BadURL:
        raise _unusable(text, "write http://host:port") from None
    return Proxy(url.origin, _basic(url))


def named_proxy(text: str) -> Proxy:
    """Do the same for a proxy that somebody has just named, who must say what `foo` is to be."""
    proxy = parse_proxy(text)
    if "://" not in text and not _PORT.search(text):
        raise _unusable(text, "it has neither a scheme nor a port: write http://host:port")
    return proxy


def proxies_from(environment: Mapping[str, str]) -> Proxies:
    """Return what `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy` say.

    Lower case wins. HTTP_PROXY in capitals is not read: to a CGI program it is a header that
    anybody may send (CVE-2016-5385). Raises ProxyFailed, which names the variable.
    """

    def read(*names: str) -> Proxy | None:
        for name in names:
            if environment.get(name):
                try:
                    return parse_proxy(environment[name])
                except ProxyFailed as error:
                    raise ProxyFailed(f"{name}: {error}") from None
        return None

    listed = environment.get("no_proxy") or environment.get("NO_PROXY", "")
    exempt = tuple(listed.lower().replace(",", " ").split())
    if "*" in exempt:
        return NO_PROXIES
    everything = "all_proxy", "ALL_PROXY"
    return Proxies(
        read("http_proxy", *everything), read("https_proxy", "HTTPS_PROXY", *everything), exempt
    )


def _split_scheme(text: str) -> tuple[str, str]:
    scheme, mark, rest = text.strip().partition("://")
    return (scheme.lower(), rest) if mark else ("http", scheme)


def _unusable(text: str, why: str) -> ProxyFailed:
    scheme, rest = _split_scheme(text)
    # Whatever may be a part of a password goes: all before an @, and a port that is none.
    _, at, place = rest.rpartition("@")
    host, colon, port = re.split(r"[/?#]", place)[0].partition(":")
    shown = f"{'...@' if at else ''}{host}{colon}{port if port.isdigit() else '...' * bool(colon)}"
    shown = f"{scheme}://{shown}" if "://" in text else shown
    return ProxyFailed(f"cannot use the proxy {shown!r}: {why}")


def _basic(url: URL) -> bytes | None:
    return None if url.credentials is None else Auth(*url.credentials).basic()


def _matches(entry: str, origin: Origin) -> bool:
    if entry == "*":
        return True
    name, colon, port = entry.rpartition(":")
    if colon and port.isdigit() and not (":" in name and not name.endswith("]")):
        if int(port) != origin.port:
            return False
        entry = name
    entry = entry.strip("[]")
    try:
        return ip_address(origin.host) in ip_network(entry, strict=False)
    except ValueError:
        pass
    suffix = entry.removeprefix("*").lstrip(".")
    return origin.host == suffix or origin.host.endswith(f".{suffix}")
