"""robots.txt first: the URLs of an origin wait here until it has said what it allows."""

from collections.abc import Callable

from attrs import define, field
from twisted.internet.interfaces import IReactorTime

from evserve.fetch.job import Job
from evserve.fetch.manners import Manners
from evserve.fetch.polite.robots import MAX_BYTES, MAX_REDIRECTS, RobotsCache, Rules, read_robots
from evserve.fetch.refusals import RobotsDenied, RobotsUnavailable
from evserve.fetch.result import Result
from evserve.fetch.seam import Arrival
from evserve.http.headers import Head
from evserve.http.request import Request
from evserve.http.url import URL, Origin


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
