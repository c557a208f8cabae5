"""robots.txt (RFC 9309): what an origin allows, and for how long that is believed."""

from collections import OrderedDict
from collections.abc import Hashable

from attrs import define, field, frozen
from protego import Protego


MAX_BYTES = 500 * 1024  # RFC 9309, section 2.5: at least this much must be read
MAX_REDIRECTS = 5  # section 2.3.1.2
_DAY = 24 * 3600.0  # section 2.4
_SHORT = 60.0  # seconds until an origin that could not answer is asked again
_LONGEST_DELAY = 60.0  # a Crawl-delay beyond this is a no in disguise
_CLIENT_ERROR, _SERVER_ERROR = 400, 500


@frozen
class Rules:
    """What is known of one origin; `trouble` if it could not be asked, which allows nothing."""

    parsed: Protego | None = None  # None: nothing is forbidden
    trouble: Exception | None = None

    @property
    def allows_everything(self) -> bool:
        """Whether there are no rules at all."""
        return self.parsed is None and self.trouble is None

    def allows(self, url: str, user_agent: str) -> bool:
        """Whether `user_agent` may fetch `url`."""
        if self.trouble is not None:
            return False
        return self.parsed is None or bool(self.parsed.can_fetch(url, user_agent))

    def delay(self, user_agent: str) -> float:
        """Return the Crawl-delay in seconds, 0 if there is none; not in the RFC, widely used."""
        delay = None if self.parsed is None else self.parsed.crawl_delay(user_agent)
        return min(float(delay or 0.0), _LONGEST_DELAY)


def read_robots(status: int, body: bytes) -> Rules | None:
    """Return the rules in an answer to a request for robots.txt; None if it is a server error.

    Section 2.3.1: what is not there forbids nothing; a server in trouble forbids everything,
    which is for the caller to say.
    """
    if status >= _SERVER_ERROR:
        return None
    if status >= _CLIENT_ERROR or not body.strip():
        return Rules()
    return Rules(Protego.parse(body[:MAX_BYTES].decode("utf-8", "replace")))


@define(eq=False)
class RobotsCache:
    """Rules by origin; the ones used longest ago make room, and no rule is older than a day."""

    size: int = 1000
    _kept: OrderedDict[Hashable, tuple[Rules, float]] = field(factory=OrderedDict, init=False)

    def get(self, origin: Hashable, now: float) -> Rules | None:
        """Return the rules of an origin; None if it must be asked (again)."""
        found = self._kept.get(origin)
        if found is None:
            return None
        rules, until = found
        if now >= until:
            del self._kept[origin]
            return None
        self._kept.move_to_end(origin)
        return rules

    def put(self, origin: Hashable, rules: Rules, now: float) -> None:
        """Keep what an origin said."""
        lifetime = _DAY if rules.trouble is None else _SHORT
        self._kept[origin] = rules, now + lifetime
        self._kept.move_to_end(origin)
        if len(self._kept) > self.size:
            self._kept.popitem(last=False)
