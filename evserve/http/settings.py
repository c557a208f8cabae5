"""How the engine behaves; every number that somebody may want to change."""

from attrs import field, frozen

from evserve.http.decoding import DecodingLimits
from evserve.http.parser import HeaderLimits
from evserve.http.proxy import NO_PROXIES, Proxies


MOST_SECONDS = 2_000_000  # what a reactor can wait for


@frozen
class Timeouts:
    """Seconds; `total` counts from the call to the last byte, waiting and redirects included."""

    connect: float = 15.0
    idle: float = 30.0
    total: float = 300.0


@frozen
class Settings:
    """What a client is made with."""

    per_origin: int = 4  # connections
    connections: int = 256  # to all origins together
    keep_idle: float = 50.0  # seconds; most servers close after 60 or 75
    timeouts: Timeouts = Timeouts()
    max_redirects: int = 20  # what browsers follow
    max_body: int | None = None  # bytes, decompressed
    headers: HeaderLimits = field(factory=HeaderLimits)
    decoding: DecodingLimits = field(factory=DecodingLimits)
    user_agent: bytes = b"evserve"
    allow_private: bool = True
    proxies: Proxies = NO_PROXIES
