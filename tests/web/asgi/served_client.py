"""A pytest plugin: Starlette's TestClient, with a server and a socket between it and the app.

`pytest -p served_client --server evserve|uvicorn` in a folder with Starlette's own tests. Each
client serves its application on loopback, by the service `asgi` or by uvicorn itself, and talks to
it over TCP, by httpx and by websockets. Only tests that use the client run; `NOT_OVER_SOCKETS`
names those that cannot.
"""

import itertools
import json
import socket
import threading
from contextlib import ExitStack
from urllib.parse import urljoin

import starlette.testclient
from attrs import define, field
from servers import TIMEOUT, EvserveServers, UvicornServers
from starlette.testclient import TestClient, WebSocketDenialResponse, httpx
from starlette.websockets import WebSocketDisconnect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect


CALL = "x-served-call"
# What the client's own side of a websocket sends by itself.
HANDSHAKE = {"host", "connection", "upgrade", "sec-websocket-key", "sec-websocket-version",
    "sec-websocket-protocol", "sec-websocket-extensions"}  # fmt: skip

NOT_OVER_SOCKETS = {
    # An extension of ASGI that TestClient has and no server that speaks HTTP/1.1.
    "test_gzip_trailers": "http.response.trailers",
    "test_gzip_excluded_content_type_trailers": "http.response.trailers",
    "test_request_send_push_promise": "http.response.push",
    # What no client can send.
    "test_received_bytes_are_counted_with_unreliable_content_length": "more than Content-Length",
    "test_receive_wrong_message_type": "a websocket.connect from the client",
    # What is refused before the application, or has no form on the wire.
    "test_http_endpoint_does_not_dispatch_non_verb_method": "the method _DO_DELETE",
    "test_response_phrase": "a status of one digit",
    "test_websocket_route_middleware": "upper case in a header of a websocket's answer",
    # TestClient's own ways.
    "test_force_500_response": "an empty body where servers send `Internal Server Error`",
    "test_accessing_context_from_threaded_sync_endpoint": "client and server in one context",
    "test_websocket_concurrency_pattern": "an application may send after the client has closed",
}

_calls = {}
_numbers = itertools.count()


@define(eq=False)
class Call:
    """One request, or one websocket, as both sides see it.

    started: whether the application was called.  ended: set when it has returned.  error: what it
    raised.  refusal: the `websocket.close` that refused a websocket, of which the wire has 403.
    debug: what a template response says about itself.
    """

    client: "ServedClient"
    url: httpx.URL
    number: str = field(init=False)
    started: bool = field(init=False, default=False)
    ended: threading.Event = field(init=False, factory=threading.Event)
    error: BaseException | None = field(init=False, default=None)
    refusal: dict | None = field(init=False, default=None)
    debug: dict | None = field(init=False, default=None)

    def __attrs_post_init__(self):
        self.number = str(next(_numbers))
        _calls[self.number] = self

    async def run(self, scope, receive, send):
        """Call the application, with what TestClient says of itself and no socket can."""
        client = self.client
        headers = [each for each in scope["headers"] if each[0] != CALL.encode()]
        port = self.url.port or {"http": 80, "https": 443, "ws": 80, "wss": 443}[self.url.scheme]
        scope = {
            **scope,
            "headers": headers,
            "client": client.address,
            "server": (self.url.host, port),
            "scheme": self.url.scheme,
            "root_path": client.root_path,
            "extensions": {**scope.get("extensions", {})},
        }
        if scope["type"] == "http":
            scope["extensions"]["http.response.debug"] = {}

        async def watched_send(message):
            if message["type"] == "http.response.debug":
                self.debug = message["info"]
                return
            if message["type"] == "websocket.close":
                self.refusal = message
            await send(message)

        self.started = True
        try:
            await client.app(scope, receive, watched_send)
        except BaseException as error:
            self.error = error
            raise
        finally:
            self.ended.set()

    def finish(self):
        """Wait until the application has returned; raise what it raised."""
        del _calls[self.number]
        if self.started and not self.ended.wait(TIMEOUT):
            raise AssertionError("the application has not returned")
        if self.error is not None:
            SHARED.renew_pool()  # the server closes the connection, a little later
            if self.client.raises:
                raise self.error


async def serve(scope, receive, send):
    """Run the application of the client that asks; the server's own is this one for all."""
    number = next(value for name, value in scope["headers"] if name == CALL.encode())
    await _calls[number.decode()].run(scope, receive, send)


@define(eq=False)
class Lifespan:
    """The application of a server that one client has for itself."""

    client: "ServedClient"
    error: BaseException | None = field(init=False, default=None)

    async def __call__(self, scope, receive, send):
        if scope["type"] != "lifespan":
            await serve(scope, receive, send)
            return
        try:
            await self.client.app(scope, receive, send)
        except BaseException as error:
            self.error = error
            raise


class Shared:
    """What the clients of a run share: the servers' thread, a connection pool, one server."""

    def open(self, servers):
        self.servers = servers
        self.pool = httpx.HTTPTransport()
        self.server = servers.start(serve, lifespan=False)

    def renew_pool(self):
        self.pool.close()
        self.pool = httpx.HTTPTransport()

    def close(self):
        self.pool.close()
        self.servers.stop(self.server)
        self.servers.close()


SHARED = Shared()


class UpgradeError(Exception):
    """A request for a websocket, with all that the client adds to a request."""


def stripped(headers):
    """Return headers without the blanks around values, which RFC 9110 (5.5) makes no part of them.

    httpcore refuses to send them, and some tests do.
    """
    return [(name, value.strip(b" \t")) for name, value in headers]


class SocketTransport(httpx.BaseTransport):
    """Sends the requests of a client to the port that serves its application."""

    def __init__(self, client):
        self.client = client

    def handle_request(self, request):
        if request.url.scheme in ("ws", "wss"):
            raise UpgradeError(request)
        call = Call(self.client, request.url)
        url = request.url.copy_with(scheme="http", host="127.0.0.1", port=self.client.server.port)
        passed = httpx.Request(
            request.method,
            url,
            headers=[*stripped(request.headers.raw), (CALL.encode(), call.number.encode())],
            stream=request.stream,
            extensions={"timeout": dict.fromkeys(("connect", "read", "write", "pool"), TIMEOUT)},
        )
        try:
            response = SHARED.pool.handle_request(passed)
        except httpx.TransportError:
            call.finish()
            raise
        response.stream = Body(response.stream, call)
        if call.debug is not None:
            response.extensions["http.response.debug"] = call.debug
            response.template = call.debug["template"]
            response.context = call.debug["context"]
        return response


class Body(httpx.SyncByteStream):
    """The body of a response; its end raises what the application raised."""

    def __init__(self, stream, call):
        self.stream, self.call, self.closed = stream, call, False

    def __iter__(self):
        try:
            yield from self.stream
        except httpx.TransportError:
            self.close()
            raise
        self.close()

    def close(self):
        if not self.closed:
            self.closed = True
            self.stream.close()
            self.call.finish()


class SocketSession:
    """A websocket, with the methods of TestClient's session."""

    def __init__(self, client, request, subprotocols):
        self.client, self.request, self.subprotocols = client, request, subprotocols

    def __enter__(self):
        self.call = Call(self.client, self.request.url)
        with ExitStack() as stack:
            stack.callback(self.call.finish)
            fields = [each for each in self.request.headers.items() if each[0] not in HANDSHAKE]
            url = self.request.url
            try:
                connected = connect(
                    str(url.copy_with(scheme="ws")),
                    sock=socket.create_connection(("127.0.0.1", self.client.server.port), TIMEOUT),
                    subprotocols=self.subprotocols,
                    additional_headers=[*fields, (CALL, self.call.number)],
                    user_agent_header=None,
                    proxy=None,
                    open_timeout=TIMEOUT,
                    close_timeout=TIMEOUT,
                    max_size=None,
                )
                self.socket = stack.enter_context(connected)
            except InvalidStatus as error:
                self._refused(error.response)
            self.accepted_subprotocol = self.socket.subprotocol
            self.extra_headers = [
                (name.encode(), value.encode())
                for name, value in self.socket.response.headers.raw_items()
                if name.lower() not in ("upgrade", "connection", "date", "server")
                and not name.lower().startswith("sec-websocket-")
            ]
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *exception):
        return self.stack.__exit__(*exception)

    def _refused(self, response):
        if self.call.refusal is not None:
            code, reason = self.call.refusal.get("code", 1000), self.call.refusal.get("reason")
            raise WebSocketDisconnect(code, reason or "")
        raise WebSocketDenialResponse(
            status_code=response.status_code,
            headers=[*response.headers.raw_items()],
            content=bytes(response.body),
        )

    def send(self, message):
        if message["type"] == "websocket.disconnect":
            self.close(message["code"], message.get("reason"))
        elif message.get("text") is not None:
            self.send_text(message["text"])
        else:
            self.send_bytes(message["bytes"])

    def send_text(self, data):
        self.socket.send(data, text=True)

    def send_bytes(self, data):
        self.socket.send(data, text=False)

    def send_json(self, data, mode="text"):
        text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
        self.socket.send(text.encode(), text=mode == "text")

    def close(self, code=1000, reason=None):
        self.socket.close(code, reason or "")

    def receive(self):
        try:
            data = self.socket.recv(TIMEOUT)
        except ConnectionClosed:
            code, reason = self.socket.close_code, self.socket.close_reason
            return {"type": "websocket.close", "code": code, "reason": reason or ""}
        return {"type": "websocket.send", "text" if isinstance(data, str) else "bytes": data}

    def _data(self, kind):
        message = self.receive()
        if message["type"] == "websocket.close":
            raise WebSocketDisconnect(message["code"], message["reason"])
        return message[kind]

    def receive_text(self):
        return self._data("text")

    def receive_bytes(self):
        return self._data("bytes")

    def receive_json(self, mode="text"):
        return json.loads(self._data("text" if mode == "text" else "bytes"))


class ServedClient(TestClient):
    """TestClient by its interface; what is below it is a socket."""

    def __init__(
        self,
        app,
        *urls,
        raise_server_exceptions=True,
        root_path="",
        client=("testclient", 50000),
        **others,
    ):
        super().__init__(app, *urls, **others)
        self.raises, self.root_path, self.address = raise_server_exceptions, root_path, client
        self.server = SHARED.server
        self._transport = SocketTransport(self)

    def __enter__(self):
        self.lifespan_of_app = Lifespan(self)
        server = SHARED.servers.start(self.lifespan_of_app, lifespan=True)
        if server.port is None:
            raise self.lifespan_of_app.error
        self.server = server
        return self

    def __exit__(self, *exception):
        server, self.server = self.server, SHARED.server
        SHARED.servers.stop(server)
        if self.lifespan_of_app.error is not None:
            raise self.lifespan_of_app.error

    def websocket_connect(self, url, subprotocols=None, **kwargs):
        try:
            self.request("GET", urljoin("ws://testserver", url), **kwargs)
        except UpgradeError as upgrade:
            return SocketSession(self, *upgrade.args, subprotocols)


starlette.testclient.TestClient = ServedClient


def pytest_addoption(parser):
    parser.addoption("--server", choices=["evserve", "uvicorn"], required=True)


def pytest_collection_modifyitems(config, items):
    kept = [each for each in items if runs_over_sockets(each)]
    config.hook.pytest_deselected(items=[each for each in items if each not in kept])
    items[:] = kept


def runs_over_sockets(item):
    uses_client = "test_client_factory" in item.fixturenames
    return uses_client and "[trio" not in item.name and item.originalname not in NOT_OVER_SOCKETS


def pytest_ignore_collect(collection_path):
    return True if collection_path.name == "test_testclient.py" else None


def pytest_sessionstart(session):
    kinds = {"evserve": EvserveServers, "uvicorn": UvicornServers}
    SHARED.open(kinds[session.config.getoption("--server")]())


def pytest_sessionfinish(session):
    SHARED.close()
