"""robots.txt (RFC 9309): jobs wait for the rules of their origin, which may refuse them."""

import re
from collections import OrderedDict
from collections.abc import Callable

from attrs import define, field, frozen
from protego import Protego
from twisted.internet.interfaces import IReactorTime

from evserve.fetch.errors import RobotsDenied, RobotsUnavailable, error_text
from evserve.fetch.job import Job
from evserve.fetch.policy import PAGE_HEADERS, Policy
from evserve.fetch.result import Result
from evserve.fetch.text import marked_encoding
from evserve.http.errors import BodyTooLarge
from evserve.http.headers import Head, Headers
from evserve.http.redirects import is_redirect
from evserve.http.request import Request
from evserve.http.url import URL, Origin


_MAX_BYTES = 500 * 1024  # RFC 9309, section 2.5: at least this much must be read
_MAX_REDIRECTS = 5  # section 2.3.1.2
_LIFETIME = 24 * 3600.0  # seconds; section 2.4
_LIFETIME_OF_ERROR = 60.0  # seconds until an unavailable robots.txt is fetched again
_MAX_CRAWL_DELAY = 60.0  # seconds; more would be a refusal in disguise
_CLIENT_ERROR, _SERVER_ERROR = 400, 500
_LINE_END = re.compile(r"\r\n?|\n")


@frozen
class RobotsRules:
    """The rules of one origin. error: why they are unavailable, and nothing is allowed."""

    parsed: Protego | None = None  # None: no restrictions
    error: Exception | None = None

    def allows(self, url: str, user_agent: str) -> bool:
        """Whether `user_agent` may fetch `url`."""
        if self.error is not None:
            return False
        return self.parsed is None or bool(self.parsed.can_fetch(url, user_agent))

    def crawl_delay(self, user_agent: str) -> float:
        """Return the Crawl-delay in seconds, 0 without one; it is not in the RFC."""
        delay = None if self.parsed is None else self.parsed.crawl_delay(user_agent)
        return min(float(delay or 0.0), _MAX_CRAWL_DELAY)


def parse_robots(status: int, body: bytes) -> RobotsRules | None:
    """Return the rules in a response to /robots.txt; None if it is a server error.

    Section 2.3.1: a missing file allows everything, a server error nothing.
    """
    if status >= _SERVER_ERROR:
        return None
    if status >= _CLIENT_ERROR or not body.strip():
        return RobotsRules()
    return RobotsRules(Protego.parse(_decode(body)))


def _decode(body: bytes) -> str:
    """Return the text of a robots.txt: UTF-8, or what a byte-order mark says."""
    if len(body) > _MAX_BYTES:
        # The rest of a rule would be another rule: `Disallow: /` of `Disallow: /private`.
        body = body[: max(body.rfind(end, 0, _MAX_BYTES) for end in (b"\n", b"\r"))]
    # Each NUL is half a character of UTF-16 without a mark, or no part of a rule.
    text = body.decode(marked_encoding(body) or "utf-8", "replace").replace("\0", "")
    # Protego splits at other characters than line ends, too, such as NEL and form feed.
    return "\n".join(" ".join(line.splitlines()) for line in _LINE_END.split(text))


@define(eq=False)
class RobotsCache:
    """Rules by origin, for a day at most; the least recently used ones make room."""

    size: int = 1000
    _rules: OrderedDict[Origin, tuple[RobotsRules, float]] = field(factory=OrderedDict, init=False)

    def get(self, origin: Origin, now: float) -> RobotsRules | None:
        """Return the rules of an origin; None if there are none or they have expired."""
        found = self._rules.get(origin)
        if found is None:
            return None
        rules, expires_at = found
        if now >= expires_at:
            del self._rules[origin]
            return None
        self._rules.move_to_end(origin)
        return rules

    def put(self, origin: Origin, rules: RobotsRules, now: float) -> None:
        """Add the rules of an origin."""
        lifetime = _LIFETIME if rules.error is None else _LIFETIME_OF_ERROR
        self._rules[origin] = rules, now + lifetime
        self._rules.move_to_end(origin)
        if len(self._rules) > self.size:
            self._rules.popitem(last=False)


@define(eq=False)
class RobotsFilter:
    """Passes allowed jobs to `enqueue`, with their origin's Crawl-delay, and others to `refuse`.

    submit: takes the jobs that fetch robots.txt.
    """

    _policy: Policy
    _clock: IReactorTime
    _submit: Callable[[Job], None]
    _enqueue: Callable[[Job, float], None]
    _refuse: Callable[[Job, Exception], None]
    _cache: RobotsCache = field(factory=RobotsCache, init=False)
    _waiting: dict[Origin, list[Job]] = field(factory=dict, init=False)  # for robots.txt

    def check(self, job: Job) -> None:
        """Pass or refuse a job, at once or when its origin's robots.txt has arrived."""
        if not job.obeys_robots or not self._policy.obey_robots:
            self._enqueue(job, 0.0)
            return
        origin = job.request.url.origin
        rules = self._cache.get(origin, self._clock.seconds())
        if rules is not None:
            self._apply(rules, job)
        elif origin in self._waiting:
            self._waiting[origin].append(job)
        else:
            self._waiting[origin] = [job]
            self._fetch_rules(origin, job.request.headers.without(*PAGE_HEADERS))

    def _fetch_rules(self, origin: Origin, headers: Headers) -> None:
        body = _BodyBuffer()
        request = Request(URL(origin, "/robots.txt"), headers=headers, follow=False)

        def done(result: Result) -> None:
            rules = None
            is_enough = result.sha256 is not None or len(body.data) > _MAX_BYTES
            if result.status_code is not None and is_enough:
                rules = parse_robots(result.status_code, bytes(body.data))
            if rules is None:
                # If the origin cannot be reached at all, that is the better reason.
                unreachable = job.error if result.status_code is None else None
                reason = "no answer" if result.error is None else error_text(result.error)
                unavailable = RobotsUnavailable(f"{origin}/robots.txt: {reason}")
                rules = RobotsRules(error=unreachable or unavailable)
                for each in self._waiting[origin]:
                    each.tries += result.tries
                    each.elapsed += result.elapsed
            self._cache.put(origin, rules, self._clock.seconds())
            for each in self._waiting.pop(origin):
                self._apply(rules, each)

        job = Job(str(request.url), request, done, (body,), obeys_robots=False)
        job.max_redirects = _MAX_REDIRECTS
        self._submit(job)

    def _apply(self, rules: RobotsRules, job: Job) -> None:
        if rules.parsed is None and rules.error is None:
            self._enqueue(job, 0.0)
            return
        headers, user_agent = job.request.headers, self._policy.user_agent
        if headers.lines:
            user_agent = headers.get("user-agent", user_agent)
        if rules.allows(str(job.request.url), user_agent):
            self._enqueue(job, rules.crawl_delay(user_agent))
        else:
            denied = RobotsDenied("disallowed by its robots.txt (--no-robots ignores it)")
            self._refuse(job, rules.error or denied)


@define(eq=False)
class _BodyBuffer:
    """Keeps the beginning of a body in memory: a Sink and its ResponseWriter."""

    data: bytearray = field(factory=bytearray)

    def prepare(self, request: Request, url: str) -> Request:
        return request

    def open(self, job: Job, head: Head) -> "_BodyBuffer | None":
        self.data.clear()
        return None if is_redirect(head) else self

    def write(self, data: bytes) -> None:
        self.data += data
        if len(self.data) > _MAX_BYTES:  # the rest, perhaps endless, has no meaning
            raise BodyTooLarge(f"longer than {_MAX_BYTES} bytes")

    def close(self, error: Exception | None) -> None:
        pass
