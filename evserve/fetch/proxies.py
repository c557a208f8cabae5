"""Which proxy a request goes through: as options say, or the environment in curl's spelling."""

from base64 import b64encode
from collections.abc import Mapping
from ipaddress import ip_address, ip_network

from attrs import frozen

from evserve.fetch.errors import BadURL, ProxyFailed
from evserve.fetch.url import URL, Origin, parse_url


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
    """Return the proxy at `http://[user:password@]host:port`; raises ProxyFailed."""
    try:
        url = parse_url(text if "://" in text else f"http://{text}")
    except BadURL as error:
        raise ProxyFailed(f"cannot use the proxy {text!r}: {error}") from None
    return Proxy(url.origin, _basic(url))


def proxies_from(environment: Mapping[str, str]) -> Proxies:
    """Return what `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy` say.

    Lower case wins. HTTP_PROXY in capitals is not read: to a CGI program it is a header that
    anybody may send (CVE-2016-5385).
    """

    def read(name: str) -> str:
        return environment.get(name) or environment.get(name.upper(), "")

    everything = read("all_proxy")
    http = environment.get("http_proxy") or everything
    https = read("https_proxy") or everything
    exempt = tuple(entry.strip().lower() for entry in read("no_proxy").split(","))
    return Proxies(
        parse_proxy(http) if http else None,
        parse_proxy(https) if https else None,
        tuple(entry for entry in exempt if entry),
    )


def _basic(url: URL) -> bytes | None:
    if url.credentials is None:
        return None
    return b"Basic " + b64encode(":".join(url.credentials).encode())


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
