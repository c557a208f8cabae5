"""An application whose answers say what it was given, and that can answer wrongly."""

import json


BODY = b"x" * 10
SIZED = [(b"content-length", b"10")]


def start(status=200, headers=()):
    return {"type": "http.response.start", "status": status, "headers": [*headers]}


def body(data=b"", *, more=False):
    return {"type": "http.response.body", "body": data, "more_body": more}


# The messages of an answer by its path; an exception is raised.
ANSWERS = {
    "/sized": [start(headers=SIZED), body(BODY)],
    "/in-pieces": [start(headers=SIZED), body(b"x" * 4, more=True), body(b"x" * 6)],
    "/chunked": [start(), body(b"a", more=True), body(b"", more=True), body(b"bc")],
    "/chunked-and-empty": [start(), body()],
    "/capitals": [
        start(headers=[(b"X-Capitals", b"Yes"), (b"CONTENT-LENGTH", b"10")]),
        body(BODY),
    ],
    "/twice": [start(headers=[*SIZED, (b"x-a", b"1"), (b"x-a", b"2")]), body(BODY)],
    "/date": [start(headers=[*SIZED, (b"date", b"now")]), body(BODY)],
    "/8-bit": [start(headers=[*SIZED, (b"x-a", b"\xe9\xff")]), body(BODY)],
    "/close": [start(headers=[*SIZED, (b"connection", b"close")]), body(BODY)],
    "/keep-alive": [start(headers=[*SIZED, (b"connection", b"keep-alive")]), body(BODY)],
    "/upgrade": [start(headers=[*SIZED, (b"upgrade", b"x")]), body(BODY)],
    "/chunked-itself": [start(headers=[(b"transfer-encoding", b"chunked")]), body(BODY)],
    "/100": [start(100), body()],
    "/204": [start(204), body()],
    "/204-with-body": [start(204), body(BODY)],
    "/304": [start(304), body()],
    "/304-sized": [start(304, SIZED), body()],
    "/404": [start(404, SIZED), body(BODY)],
    "/599": [start(599, SIZED), body(BODY)],
    "/999": [start(999, SIZED), body(BODY)],
    "/too-short": [start(headers=SIZED), body(b"x")],
    "/too-long": [start(headers=SIZED), body(BODY * 2)],
    "/too-long-in-pieces": [start(headers=SIZED), body(BODY, more=True), body(BODY)],
    "/no-number": [start(headers=[(b"content-length", b"ten")]), body(BODY)],
    "/bad-name": [start(headers=[*SIZED, (b"x y", b"1")]), body(BODY)],
    "/bad-value": [start(headers=[*SIZED, (b"x-a", b"1\r\nx-b: 2")]), body(BODY)],
    "/nothing": [],
    "/start-only": [start(headers=SIZED)],
    "/unfinished": [start(headers=SIZED), body(b"x", more=True)],
    "/unfinished-chunks": [start(), body(b"x", more=True)],
    "/fails-at-once": [LookupError()],
    "/fails-after-start": [start(), LookupError()],
    "/fails-in-body": [start(), body(b"x", more=True), LookupError()],
    "/fails-after-the-end": [start(headers=SIZED), body(BODY), LookupError()],
    "/two-starts": [start(headers=SIZED), start(headers=SIZED), body(BODY)],
    "/body-first": [body(BODY)],
    "/two-bodies": [start(headers=SIZED), body(BODY), body(BODY)],
    "/unknown-message": [start(headers=SIZED), {"type": "http.response.nonsense"}, body(BODY)],
    "/websocket-message": [{"type": "websocket.accept"}],
}


async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await websocket(scope, receive, send)
        return
    assert scope["type"] == "http", scope["type"]
    messages = ANSWERS.get(scope["path"])
    if messages is None:
        messages = await told(scope, receive)
    for message in messages:
        if isinstance(message, Exception):
            raise message
        await send(message)


# What an application does with a websocket by its path, before it sends back what it gets.
HANDSHAKES = {
    "/accepts": [{"type": "websocket.accept"}],
    "/accepts-with-headers": [
        {"type": "websocket.accept", "subprotocol": "b", "headers": [(b"x-a", b"1")]}
    ],
    "/refuses": [{"type": "websocket.close", "code": 4000}],
    "/answers": [
        {"type": "websocket.http.response.start", "status": 404, "headers": SIZED},
        {"type": "websocket.http.response.body", "body": BODY},
    ],
    "/fails": [LookupError()],
    "/fails-later": [{"type": "websocket.accept"}, LookupError()],
    "/closes": [
        {"type": "websocket.accept"},
        {"type": "websocket.send", "text": "bye"},
        {"type": "websocket.close", "code": 4001, "reason": "enough"},
    ],
    "/nonsense": [{"type": "websocket.nonsense"}],
    "/says-nothing": [],
}


async def websocket(scope, receive, send):
    await receive()
    for message in HANDSHAKES[scope["path"]]:
        if isinstance(message, Exception):
            raise message
        await send(message)
    if not scope["path"].startswith("/accepts"):
        return
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
        if message.get("text") == "end":
            await send({"type": "websocket.close"})
            return


async def told(scope, receive):
    """Return an answer that is the scope and the body of the request."""
    data, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return []
        data += message.get("body", b"")
        more = message.get("more_body", False)
    told = {name: value for name, value in scope.items() if name not in ("client", "server")}
    text = json.dumps([told, data], sort_keys=True, default=repr).encode()
    return [start(headers=[(b"content-length", b"%d" % len(text))]), body(text)]
