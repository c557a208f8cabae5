"""The engine's front door: `Client(reactor).fetch(request, receiver)`."""

from typing import Any

from attrs import define, field

from evserve.http.call import Call
from evserve.http.connector import Connector
from evserve.http.cookies import Cookies
from evserve.http.credentials import Credentials
from evserve.http.deadlines import Deadlines
from evserve.http.errors import Cancelled, PrivateAddress
from evserve.http.guard import is_private_name
from evserve.http.pool import Pool
from evserve.http.proxies import Proxy
from evserve.http.request import Receiver, Request
from evserve.http.settings import Settings
from evserve.http.slot import Slot
from evserve.http.tls import TLS
from evserve.http.url import Origin
from evserve.http.wire import Extra, check, compose, is_plain, tail_of


@define(eq=False)
class Client:
    """Fetches; `cookies` keeps what servers set, if it is given."""

    _reactor: Any
    settings: Settings = field(factory=Settings)
    cookies: Cookies | None = None
    _tls: TLS = field(factory=TLS)
    credentials: Credentials = field(factory=Credentials, init=False)
    deadlines: Deadlines = field(init=False)
    pool: Pool = field(init=False)
    _calls: set[Call] = field(factory=set, init=False)

    def __attrs_post_init__(self) -> None:
        settings = self.settings
        connector = Connector(
            self._reactor, self._tls, settings.allow_private, settings.timeouts.connect
        )
        self.deadlines = Deadlines(self._reactor)
        self.pool = Pool(settings, self.deadlines, connector.endpoint)

    def fetch(self, request: Request, receiver: Receiver) -> Call:
        """Ask for a resource; `receiver` is told what comes, `finished` last, maybe at once.

        Raises BadRequest for a method or header that cannot be sent.
        """
        if request.headers.lines or request.method != b"GET":
            check(request)
        call = Call(self, request, receiver)
        self._calls.add(call)
        self.deadlines.add(call, self.deadlines.clock.seconds())
        call.begin()
        return call

    def proxy_for(self, origin: Origin) -> Proxy | None:
        """See seam.Engine."""
        return self.settings.proxies.choose(origin)

    def close(self) -> None:
        """Cancel what is under way, close every connection, leave no timer."""
        for call in tuple(self._calls):
            call.cancel(Cancelled("the client is closed"))
        self.pool.close()
        self.deadlines.stop()

    # What calls need.

    def slot(self, request: Request) -> Slot:
        """See call.Dispatcher."""
        origin = request.url.origin
        proxy = self.proxy_for(origin)
        if proxy is not None and not self.settings.allow_private and is_private_name(origin.host):
            raise PrivateAddress(f"{origin.host} is not a public address")
        return self.pool.slot(origin, proxy)

    def wire(self, request: Request, slot: Slot) -> bytes:
        """See call.Dispatcher."""
        cookie = None if self.cookies is None else self.cookies.header(request.url)
        is_anonymous = request.auth is None and request.url.credentials is None
        authorization = None if is_anonymous else self.credentials.header(request)
        if authorization is None and cookie is None and slot.proxy is None and is_plain(request):
            tail = slot.tail
            if tail is None or not tail.fits(request):
                tail = slot.tail = tail_of(request, self.settings.user_agent)
            return b"%b %b%b" % (request.method, request.url.target.encode("ascii"), tail.data)
        extra = Extra(cookie, authorization)
        return compose(request, self.settings.user_agent, extra, slot.proxy)

    def ended(self, call: Call) -> None:
        """See call.Dispatcher."""
        self._calls.discard(call)
        self.deadlines.discard(call)
