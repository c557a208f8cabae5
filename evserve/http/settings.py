"""Timeouts, limits and proxies of a client."""

from attrs import field, frozen

from evserve.http.decoding import DecodingLimits
from evserve.http.parser import HeaderLimits
from evserve.http.proxy import NO_PROXIES, Proxies


@frozen
class Timeouts:
    """Seconds. `total` runs from the call to the last byte, with waiting and redirects."""

    connect: float = 15.0
    idle: float = 30.0
    total: float = 300.0


@frozen
class Settings:
    """The options of a `Client`."""

    per_origin: int = 4  # connections
    connections: int = 256  # over all origins
    keep_idle: float = 50.0  # seconds; most servers close after 60 or 75
    timeouts: Timeouts = Timeouts()
    max_redirects: int = 20  # the limit of browsers
    max_body: int | None = None  # bytes after decompression
    headers: HeaderLimits = field(factory=HeaderLimits)
    decoding: DecodingLimits = field(factory=DecodingLimits)
    user_agent: bytes = b"evserve"
    allow_private: bool = True  # False refuses addresses outside the public Internet
    proxies: Proxies = NO_PROXIES
