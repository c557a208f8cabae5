"""robots.txt first: the URLs of an origin wait here until it has said what it allows."""

from collections import OrderedDict
from collections.abc import Callable, Hashable

from attrs import define, field, frozen
from protego import Protego
from twisted.internet.interfaces import IReactorTime

from evserve.fetch.errors import RobotsDenied, RobotsUnavailable
from evserve.fetch.interfaces import Arrival
from evserve.fetch.job import Job, Result
from evserve.fetch.policy import Manners
from evserve.http.messages import Head
from evserve.http.request import Request
from evserve.http.url import URL, Origin


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


@define(eq=False)
class _Page:
    """Keeps the beginning of a body in memory: a Store and its Copy."""

    body: bytearray = field(factory=bytearray)

    def prepare(self, request: Request, text: str) -> Request:
        return request

    def open(self, arrival: Arrival, head: Head) -> "_Page":
        self.body.clear()
        return self

    def write(self, data: bytes) -> None:
        self.body += data[: MAX_BYTES - len(self.body)]

    def close(self, error: Exception | None) -> None:
        pass


@define(eq=False)
class Gate:
    """Lets jobs through to `enqueue`, with the delay their origin asks for, or to `refuse`."""

    _manners: Manners
    _clock: IReactorTime
    _enqueue: Callable[[Job, float], None]
    _refuse: Callable[[Job, Exception], None]
    _cache: RobotsCache = field(factory=RobotsCache, init=False)
    _parked: dict[Origin, list[Job]] = field(factory=dict, init=False)

    def admit(self, job: Job) -> None:
        """Decide about a job, now or when its origin's robots.txt is there."""
        if not job.heeds_robots or not self._manners.robots:
            self._enqueue(job, 0.0)
            return
        origin = job.request.url.origin
        rules = self._cache.get(origin, self._clock.seconds())
        if rules is not None:
            self._decide(job, rules)
        elif origin in self._parked:
            self._parked[origin].append(job)
        else:
            self._parked[origin] = [job]
            self._ask(origin)

    def _ask(self, origin: Origin) -> None:
        page = _Page()
        request = Request(URL(origin, "/robots.txt"), follow=False)

        def answered(result: Result) -> None:
            rules = None
            if result.status_code is not None and result.sha256 is not None:
                rules = read_robots(result.status_code, bytes(page.body))
            if rules is None:
                rules = Rules(trouble=_trouble(origin, job, result))
                for each in self._parked[origin]:
                    each.tries += result.tries
                    each.elapsed += result.elapsed
            self._learnt(origin, rules)

        job = Job(str(request.url), request, answered, (page,), heeds_robots=False)
        job.max_hops = MAX_REDIRECTS
        self._enqueue(job, 0.0)

    def _learnt(self, origin: Origin, rules: Rules) -> None:
        self._cache.put(origin, rules, self._clock.seconds())
        for job in self._parked.pop(origin, ()):
            self._decide(job, rules)

    def _decide(self, job: Job, rules: Rules) -> None:
        if rules.allows_everything:
            self._enqueue(job, 0.0)
            return
        url, user_agent = str(job.request.url), self._manners.user_agent
        if rules.allows(url, user_agent):
            self._enqueue(job, rules.delay(user_agent))
        elif rules.trouble is not None:
            self._refuse(job, rules.trouble)
        else:
            self._refuse(job, RobotsDenied("its robots.txt asks us to stay away (--no-robots)"))


def _trouble(origin: Origin, job: Job, result: Result) -> Exception:
    """Return why no rules could be had: if nobody answers there, that is the better reason."""
    if job.failure is not None and result.status_code is None:
        return job.failure
    return RobotsUnavailable(f"{origin}/robots.txt: {result.error}")
