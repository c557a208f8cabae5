"""What clients send: conversations by their groups and names.

A conversation is bytes, or a list of what happens one after the other: bytes arrive, a number of
seconds passes, or a word (`END`, `STOP_READING`, `READ_AGAIN`) says what the client does.
"""

END = "the client sends no more"
STOP_READING = "the client stops reading"
READ_AGAIN = "the client reads again"

HOST = b"Host: a.example\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: a.example\r\n\r\n"  # seen if the one before it ended well


def request(line, *headers, body=b""):
    """Return a request of a request line, header lines without their ends, and a body."""
    return b"\r\n".join([line, b"Host: a.example", *headers, b"", body])


def get(target=b"/a", *headers):
    return request(b"GET " + target + b" HTTP/1.1", *headers)


def post(*headers, body=b"", target=b"/a"):
    return request(b"POST " + target + b" HTTP/1.1", *headers, body=body)


def sized(body, *headers, target=b"/a"):
    return post(b"Content-Length: %d" % len(body), *headers, body=body, target=target)


def chunked(body, *headers, target=b"/a"):
    return post(b"Transfer-Encoding: chunked", *headers, body=body, target=target)


def multipart(*parts):
    body = b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n"
    return sized(body, b"Content-Type: multipart/form-data; boundary=b")


FORM = b"Content-Type: application/x-www-form-urlencoded"

WELL_FORMED = {
    "GET": get(),
    "GET of the root": get(b"/"),
    "GET with a query": get(b"/a?x=1&y=2&x=3&empty=&bare&%C3%A9=%20+"),
    "GET with semicolons in the query": get(b"/a?x=1;y=2"),
    "GET with two question marks": get(b"/a?x=1?2"),
    "GET with an empty query": get(b"/a?"),
    "GET of escapes": get(b"/a%20b/%2F/%zz/../c//d"),
    "GET with a fragment": get(b"/a#b?c=d"),
    "GET with punctuation": get(b"/!$&'()*+,;=:@-._~[]{}|\\^`\"<>"),
    "GET with a body": request(b"GET /a HTTP/1.1", b"Content-Length: 4", body=b"body"),
    "HEAD": request(b"HEAD /a HTTP/1.1") + NEXT,
    "HEAD of chunks": request(b"HEAD /chunks HTTP/1.1") + NEXT,
    "HEAD of a pull producer": request(b"HEAD /pull HTTP/1.1") + NEXT,
    "HEAD of a large body": request(b"HEAD /large HTTP/1.1") + NEXT,
    "HEAD of a resource that knows GET": request(b"HEAD /getter HTTP/1.1") + NEXT,
    "PUT": request(b"PUT /a HTTP/1.1", b"Content-Length: 3", body=b"put"),
    "DELETE": request(b"DELETE /a HTTP/1.1"),
    "PATCH": request(b"PATCH /a HTTP/1.1", b"Content-Length: 5", body=b"patch"),
    "OPTIONS": request(b"OPTIONS /a HTTP/1.1"),
    "OPTIONS of a resource that knows GET": request(b"OPTIONS /getter HTTP/1.1"),
    "PUT to a resource that knows GET": request(b"PUT /getter HTTP/1.1") + NEXT,
    "TRACE": request(b"TRACE /a HTTP/1.1"),
    "PROPFIND": request(b"PROPFIND /a HTTP/1.1", b"Depth: 1"),
    "REPORT": request(b"REPORT /a HTTP/1.1"),
    "QUERY": request(b"QUERY /a HTTP/1.1", b"Content-Length: 1", body=b"q"),
    "POST": sized(b"hello"),
    "POST without a body": post() + NEXT,
    "POST of length 0": sized(b"") + NEXT,
    "POST of 70 kB": sized(b"0123456789" * 7000) + NEXT,
    "POST of 200 kB": sized(b"0123456789" * 20000) + NEXT,
    "POST of NUL and all bytes": sized(bytes(range(256))) + NEXT,
    "POST with a query": sized(b"x=2&z=3", FORM, target=b"/a?x=1&y=1"),
    "POST of a form": sized(b"a=1&b=2&a=3&empty=&bare&%41=%2B+", FORM),
    "POST of a form with a charset": sized(b"a=%e9", FORM + b"; charset=latin-1"),
    "POST of a form in chunks": chunked(b"3\r\na=1\r\n4\r\n&b=2\r\n0\r\n\r\n", FORM),
    "PUT of a form": request(b"PUT /a HTTP/1.1", FORM, b"Content-Length: 3", body=b"a=1"),
    "POST of multipart": multipart(
        b'Content-Disposition: form-data; name="a"\r\n\r\none',
        b'Content-Disposition: form-data; name="f"; filename="x"\r\n'
        b"Content-Type: text/plain\r\n\r\nfile\r\n",
        b'Content-Disposition: form-data; name="a"\r\n\r\ntwo',
    ),
    "POST of multipart without a boundary": sized(
        b"--b\r\n\r\nx\r\n--b--\r\n", b"Content-Type: multipart/form-data"
    )
    + NEXT,
    "POST of broken multipart": sized(b"nothing", b"Content-Type: multipart/form-data; boundary=b")
    + NEXT,
    "POST of JSON": sized(b'{"a": 1}', b"Content-Type: application/json"),
    "many headers": get(b"/a", *(b"X-%d: %d" % (n, n) for n in range(100))),
    "headers of a browser": get(
        b"/a",
        b"Connection: keep-alive",
        b"Cache-Control: max-age=0",
        b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)",
        b"Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8",
        b"Accept-Encoding: gzip, deflate, br",
        b"Accept-Language: de,en;q=0.5",
        b'If-None-Match: "x"',
    ),
    "cookies": get(b"/a", b"Cookie: a=1; b=2;c=3; d; =e; f=g=h", b"Cookie: a=9; z=\xe9"),
    "the same header three times": get(b"/a", b"X-A: 1", b"X-B: 2", b"x-a: 3", b"X-a: 4"),
    "header names in every case": get(b"/a", b"content-type: x", b"CONTENT-MD5: x", b"eTag: y"),
    "empty header values": get(b"/a", b"X-A:", b"X-B: ", b"X-C: \t "),
    "header without a blank after the colon": get(b"/a", b"X-A:b", b"X-C::d", b"X-E:f:g"),
    "all characters of a token in a name": get(b"/a", b"!#$%&'*+-.^_`|~09aZ: x"),
    "underscore in a name": get(b"/a", b"X_A: 1", b"X-A: 2"),
    "8-bit header value": get(b"/a", b"X-A: \xc3\xa9\xff\x80"),
    "tab in a header value": get(b"/a", b"X-A: a\tb", b"X-B:\tc\t"),
    "Host in capitals": b"GET /a HTTP/1.1\r\nHOST: A.EXAMPLE:8080\r\n\r\n",
    "Host with a port": b"GET /a HTTP/1.1\r\nHost: a.example:81\r\n\r\n",
    "Host of IPv6": b"GET /a HTTP/1.1\r\nHost: [::1]:81\r\n\r\n",
    "pipeline of three": get(b"/1") + sized(b"two", target=b"/2") + get(b"/3"),
    "pipeline behind chunks": chunked(b"1\r\nx\r\n0\r\n\r\n") + NEXT,
    "pipeline of all answers": get(b"/chunks")
    + get(b"/pieces")
    + get(b"/code?204")
    + get(b"/code?304")
    + get(b"/empty")
    + get(b"/unwritten")
    + get(b"/plain")
    + get(b"/untyped")
    + get(b"/reason")
    + get(b"/redirect")
    + NEXT,
    "pipeline of 300": b"".join(get(b"/%d" % n) for n in range(300)),
    "one after the other": [get(b"/1"), get(b"/2"), sized(b"x", target=b"/3"), get(b"/4")],
    "pieces within a request": [b"GE", b"T /a HT", b"TP/1.1\r", b"\nHost: a", b"\r\n\r", b"\n"],
    "pieces within a body": [sized(b"0123456789")[:-9], b"1234", b"56789" + NEXT[:3], NEXT[3:]],
}

ANSWERS = {
    f"answer: {name}": [get(b"/" + name.encode()) + NEXT, 1, 1, 1]
    for name in (
        *("code?200", "code?201", "code?204", "code?205", "code?206", "code?304", "code?404"),
        *("code?418", "code?500", "code?503", "code?599", "code?999", "reason", "empty", "plain"),
        *("broken_reason", "broken_header"),
        *("untyped", "chunks", "pieces", "unwritten", "later", "drip", "large", "push", "pull"),
        *("close", "lose", "abort", "error", "midway", "tagged", "redirect", "getter"),
    )
} | {
    "answer to HTTP/1.0: " + name: [b"GET /%s HTTP/1.0\r\n\r\n" % name.encode() + NEXT, 1, 1, 1]
    for name in ("echo", "chunks", "pieces", "code?204", "code?304", "empty", "push", "drip")
}
ANSWERS |= {
    "If-None-Match hits": get(b"/tagged", b'If-None-Match: "v0" "v1"') + NEXT,
    "If-None-Match with a star, PUT": request(b"PUT /tagged HTTP/1.1", b"If-None-Match: *") + NEXT,
    "If-Modified-Since hits": get(b"/tagged", b"If-Modified-Since: Sun, 09 Sep 2001 01:46:40 GMT")
    + NEXT,
    "If-Modified-Since is nonsense": get(b"/tagged", b"If-Modified-Since: yesterday") + NEXT,
    "a client that ends while it waits": [get(b"/later"), 1, END, 5],
    "a client that ends between requests": [get(), END],
    "a client that ends in the head": [get()[:-9], END],
    "a client that ends in the body": [sized(b"0123456789")[:-3], END],
    "a client that ends in a chunk": [chunked(b"5\r\nab"), END],
    "a client that ends at once": [END],
    "a client that ends behind a pipeline": [get(b"/later") + get(b"/never") + NEXT, 3, END, 5],
    "deferred answers of a pipeline": [get(b"/later") + get(b"/drip") + NEXT, 1, 1, 1, 1, 1],
    "a request while another is answered": [get(b"/later"), NEXT, 1, get(b"/z"), 1, get(b"/y")],
    "requests in pieces while another is answered": [get(b"/later"), NEXT[:9], 1, NEXT[9:], 1],
    "100 kB of requests while another is answered": [
        get(b"/later"),
        *[sized(b"z" * 10_000, target=b"/%d" % n) for n in range(10)],
        *(1, 1),
    ],
    "a client that does not read a large answer": [
        STOP_READING,
        get(b"/large") + NEXT,
        1,
        READ_AGAIN,
    ],
    "a client that does not read pushed data": [
        STOP_READING,
        get(b"/push") + NEXT,
        1,
        READ_AGAIN,
        STOP_READING,
        1,
        READ_AGAIN,
    ],
    "a client that does not read pulled data": [
        STOP_READING,
        get(b"/large") + get(b"/pull") + NEXT,
        1,
        READ_AGAIN,
    ],
    "a client that does not read and goes": [STOP_READING, get(b"/push") + NEXT, 1, END],
    "HTTP/1.0 and a client that does not read": [
        STOP_READING,
        b"GET /push HTTP/1.0\r\n\r\n",
        1,
        READ_AGAIN,
    ],
    "a resource that sends 100 Continue by itself": get(b"/continues") + NEXT,
    "websocket upgrade without one": get(
        b"/a", b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13"
    )
    + NEXT,
    "h2c upgrade": get(
        b"/a", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"
    )
    + NEXT,
    "TLS ClientHello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(32)) + b"\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
}

REQUEST_LINES = {
    "line: " + name: line + b"\r\n" + HOST + b"\r\n" + NEXT
    for name, line in {
        "absolute-form": b"GET http://a.example/a?b=c HTTP/1.1",
        "absolute-form of another host": b"GET http://b.example:81/a HTTP/1.1",
        "absolute-form in capitals": b"GET HTTP://A.EXAMPLE/ HTTP/1.1",
        "absolute-form without a path": b"GET http://a.example HTTP/1.1",
        "absolute-form of https": b"GET https://a.example/a HTTP/1.1",
        "absolute-form of ftp": b"GET ftp://a.example/a HTTP/1.1",
        "authority-form": b"CONNECT a.example:443 HTTP/1.1",
        "authority-form with GET": b"GET a.example:443 HTTP/1.1",
        "CONNECT of a path": b"CONNECT /a HTTP/1.1",
        "asterisk-form": b"OPTIONS * HTTP/1.1",
        "asterisk-form with GET": b"GET * HTTP/1.1",
        "a path without a slash": b"GET a/b HTTP/1.1",
        "two slashes": b"GET //b.example/a HTTP/1.1",
        "a query alone": b"GET ?a=b HTTP/1.1",
        "HTTP/0.9": b"GET /a",
        "HTTP/0.9 in words": b"GET /a HTTP/0.9",
        "HTTP/1.0": b"GET /a HTTP/1.0",
        "HTTP/1.2": b"GET /a HTTP/1.2",
        "HTTP/1.9": b"GET /a HTTP/1.9",
        "HTTP/1.10": b"GET /a HTTP/1.10",
        "HTTP/1": b"GET /a HTTP/1",
        "HTTP/1.": b"GET /a HTTP/1.",
        "HTTP/01.1": b"GET /a HTTP/01.1",
        "HTTP/1.1x": b"GET /a HTTP/1.1x",
        "HTTP/2.0": b"GET /a HTTP/2.0",
        "HTTP/3.0": b"GET /a HTTP/3.0",
        "http in small letters": b"GET /a http/1.1",
        "another protocol": b"GET /a ICE/1.0",
        "RTSP": b"GET /a RTSP/1.0",
        "an RTSP method": b"DESCRIBE /a RTSP/1.0",
        "an RTSP method of HTTP": b"DESCRIBE /a HTTP/1.1",
        "a method in small letters": b"get /a HTTP/1.1",
        "a method in mixed letters": b"Get /a HTTP/1.1",
        "an unknown method": b"MAKECOFFEE /a HTTP/1.1",
        "a method with a hyphen": b"M-SEARCH /a HTTP/1.1",
        "a method of other token characters": b"$!#.^~ /a HTTP/1.1",
        "a method of one letter": b"G /a HTTP/1.1",
        "a method that goes on": b"GETS /a HTTP/1.1",
        "a method with a colon": b"GE:T /a HTTP/1.1",
        "a method with a NUL": b"GE\0T /a HTTP/1.1",
        "a method of 8 bits": b"G\xc9T /a HTTP/1.1",
        "no method": b" /a HTTP/1.1",
        "two blanks before the target": b"GET  /a HTTP/1.1",
        "two blanks before the version": b"GET /a  HTTP/1.1",
        "a blank in the target": b"GET /a b HTTP/1.1",
        "a blank at the end": b"GET /a HTTP/1.1 ",
        "a tab for a blank": b"GET\t/a HTTP/1.1",
        "a tab before the version": b"GET /a\tHTTP/1.1",
        "a tab in the target": b"GET /a\tb HTTP/1.1",
        "a form feed before the version": b"GET /a\x0cHTTP/1.1",
        "a form feed in the target": b"GET /a\x0cb HTTP/1.1",
        "a vertical tab for a blank": b"GET\x0b/a HTTP/1.1",
        "a blank at the start": b" GET /a HTTP/1.1",
        "a NUL in the target": b"GET /a\0b HTTP/1.1",
        "a bare CR in the target": b"GET /a\rb HTTP/1.1",
        "a bare CR at the end": b"GET /a HTTP/1.1\r",
        "DEL in the target": b"GET /a\x7fb HTTP/1.1",
        "a control character in the target": b"GET /a\x01b HTTP/1.1",
        "8 bits in the target": b"GET /\xc3\xa9 HTTP/1.1",
        "high bytes in the target": b"GET /\xfe\xff HTTP/1.1",
        "no target": b"GET HTTP/1.1",
        "an empty target": b"GET  HTTP/1.1",
        "only a method": b"GET",
        "a word": b"hello",
        "a header": b"Host: a.example",
        "a colon": b":",
        "a target of 8 kB": b"GET /" + b"a" * 8_000 + b" HTTP/1.1",
        "a target of 15 kB": b"GET /" + b"a" * 15_000 + b" HTTP/1.1",
        "a target of 20 kB": b"GET /" + b"a" * 20_000 + b" HTTP/1.1",
        "a method of 20 kB": b"G" * 20_000 + b" /a HTTP/1.1",
    }.items()
} | {
    "one empty line before": b"\r\n" + get() + NEXT,
    "two empty lines before": b"\r\n\r\n" + get() + NEXT,
    "20 empty lines before": b"\r\n" * 20 + get() + NEXT,
    "an empty line between": get() + b"\r\n" + NEXT,
    "an empty line after a body": sized(b"x") + b"\r\n" + NEXT,
    "two empty lines after a body": sized(b"x") + b"\r\n\r\n" + NEXT,
    "a bare LF before": b"\n" + get() + NEXT,
    "a bare CR before": b"\r" + get() + NEXT,
    "a blank line of blanks before": b"  \r\n" + get() + NEXT,
    "a bare LF after the request line": b"GET /a HTTP/1.1\n" + HOST + b"\r\n" + NEXT,
    "only bare LFs": b"GET /a HTTP/1.1\nHost: a.example\n\n" + NEXT,
    "only bare CRs": b"GET /a HTTP/1.1\rHost: a.example\r\r" + NEXT,
    "LF CR": b"GET /a HTTP/1.1\n\rHost: a.example\n\r\n\r" + NEXT,
    "CR CR LF": b"GET /a HTTP/1.1\r\r\nHost: a.example\r\n\r\n" + NEXT,
    "an endless line": [b"G" * 5_000, b"G" * 5_000, b"G" * 5_000, b"G" * 5_000],
    "a line that does not end": [b"GET /a", 59, b"b", 59, b"c", 61],
}

HEADERS = {
    "header: " + name: b"GET /a HTTP/1.1\r\n" + HOST + lines + b"\r\n\r\n" + NEXT
    for name, lines in {
        "obs-fold": b"X-A: b\r\n c",
        "obs-fold with a tab": b"X-A: b\r\n\tc",
        "obs-fold of blanks": b"X-A: b\r\n  \t ",
        "obs-fold three times": b"X-A: b\r\n c\r\n   d\r\n\te",
        "obs-fold of an empty value": b"X-A:\r\n b",
        "no colon": b"X-A",
        "no colon in the middle": b"X-A\r\nX-B: c",
        "a colon alone": b":",
        "an empty name": b": a",
        "a blank before the colon": b"X-A : b",
        "a tab before the colon": b"X-A\t: b",
        "a blank in the name": b"X A: b",
        "a blank at the start": b" X-A: b",
        "a tab at the start": b"\tX-A: b",
        "NUL in the name": b"X\0A: b",
        "NUL in the value": b"X-A: b\0c",
        "NUL alone": b"\0",
        "CTL in the name": b"X\x01A: b",
        "CTL in the value": b"X-A: b\x01c",
        "ESC in the value": b"X-A: \x1b[31m",
        "DEL in the value": b"X-A: b\x7fc",
        "DEL in the name": b"X\x7fA: b",
        "VT in the value": b"X-A: b\x0bc",
        "VT before the value": b"X-A:\x0bc",
        "8 bits in the name": b"X\xe9: b",
        "a bracket in the name": b"X[A]: b",
        "a quote in the name": b'X"A": b',
        "a slash in the name": b"X/A: b",
        "an at sign in the name": b"X@A: b",
        "a bare CR in the value": b"X-A: b\rc",
        "a bare CR in the name": b"X\rA: b",
        "a bare CR before a header": b"X-A: b\r\rX-B: c",
        "a bare CR as a line end": b"X-A: b\rX-B: c",
        "a bare LF as a line end": b"X-A: b\nX-B: c",
        "a bare LF in the name": b"X\nA: b",
        "a bare LF and a fold": b"X-A: b\n c",
        "CR CR LF as a line end": b"X-A: b\r\r\nX-B: c",
        "trailing blanks": b"X-A: b  \t ",
        "leading blanks": b"X-A:  \t b",
        "a no-break space at the end": b"X-A: b\xa0",
        "a quoted string": b'X-A: "a, \\"b\\"; c"',
        "Host twice": b"Host: b.example",
        "Host twice, the same": b"Host: a.example",
        "500 headers": b"\r\n".join(b"A: %d" % n for n in range(499)),
        "501 headers": b"\r\n".join(b"A: %d" % n for n in range(500)),
        "600 headers": b"\r\n".join(b"A: %d" % n for n in range(599)),
        "a value of 8 kB": b"X-A: " + b"a" * 8_000,
        "a value of 16,300 bytes": b"X-A: " + b"a" * 16_300,
        "a value of 16,384 bytes": b"X-A: " + b"a" * 16_384,
        "a value of 40 kB": b"X-A: " + b"a" * 40_000,
        "a name of 40 kB": b"X" * 40_000 + b": a",
        "18 kB together": b"\r\n".join(b"X-%d: %s" % (n, b"a" * 1_000) for n in range(18)),
        "18 kB of folds": b"X-A: b" + (b"\r\n " + b"a" * 1_000) * 18,
    }.items()
} | {
    "no Host": b"GET /a HTTP/1.1\r\n\r\n" + NEXT,
    "no Host in HTTP/1.0": b"GET /a HTTP/1.0\r\n\r\n" + NEXT,
    "an empty Host": b"GET /a HTTP/1.1\r\nHost:\r\n\r\n" + NEXT,
    "Host with a blank": b"GET /a HTTP/1.1\r\nHost: a b\r\n\r\n" + NEXT,
    "Host with a path": b"GET /a HTTP/1.1\r\nHost: a.example/b\r\n\r\n" + NEXT,
    "Host with user data": b"GET /a HTTP/1.1\r\nHost: u@a.example\r\n\r\n" + NEXT,
    "Host with a list": b"GET /a HTTP/1.1\r\nHost: a.example, b.example\r\n\r\n" + NEXT,
    "Host of 8 bits": b"GET /a HTTP/1.1\r\nHost: \xe9.example\r\n\r\n" + NEXT,
    "a fold before the first header": b"GET /a HTTP/1.1\r\n X-A: b\r\n\r\n" + NEXT,
    "a header that does not end": [get()[:-4], *[b"x" * 6_000] * 4],
    "headers without end": [get()[:-2], *[b"X: y\r\n" * 1_000] * 5],
}

CONNECTIONS = {
    "connection: " + name: lines + b"\r\n\r\n" + NEXT
    for name, lines in {
        "close": get()[:-4] + b"\r\nConnection: close",
        "Close in capitals": get()[:-4] + b"\r\nConnection: CLOSE",
        "close in a list": get()[:-4] + b"\r\nConnection: close, TE\r\nTE: trailers",
        "close at the end of a list": get()[:-4] + b"\r\nConnection: TE, close",
        "close without a blank": get()[:-4] + b"\r\nConnection: TE,close",
        "close in the second header": get()[:-4] + b"\r\nConnection: TE\r\nConnection: close",
        "close and keep-alive": get()[:-4] + b"\r\nConnection: close, keep-alive",
        "keep-alive": get()[:-4] + b"\r\nConnection: keep-alive",
        "nothing": get()[:-4] + b"\r\nConnection:",
        "commas": get()[:-4] + b"\r\nConnection: ,,",
        "a word with close in it": get()[:-4] + b"\r\nConnection: disclose, closed",
        "quoted close": get()[:-4] + b'\r\nConnection: "close"',
        "close with a tab": get()[:-4] + b"\r\nConnection: x,\tclose",
        "Proxy-Connection": get()[:-4] + b"\r\nProxy-Connection: close",
        "upgrade": get()[:-4] + b"\r\nConnection: upgrade\r\nUpgrade: foo/2",
        "upgrade and close": get()[:-4] + b"\r\nConnection: upgrade, close\r\nUpgrade: foo",
        "Upgrade alone": get()[:-4] + b"\r\nUpgrade: foo/2",
        "upgrade without Upgrade": get()[:-4] + b"\r\nConnection: upgrade",
        "HTTP/1.0": b"GET /a HTTP/1.0",
        "HTTP/1.0 keep-alive": b"GET /a HTTP/1.0\r\nConnection: keep-alive",
        "HTTP/1.0 Keep-Alive, of a length": b"GET /pieces HTTP/1.0\r\nConnection: Keep-Alive",
        "HTTP/1.0 keep-alive, no length": b"GET /chunks HTTP/1.0\r\nConnection: keep-alive",
        "HTTP/1.0 close": b"GET /a HTTP/1.0\r\nConnection: close",
        "close of a deferred answer": get(b"/later")[:-4] + b"\r\nConnection: close",
    }.items()
} | {
    "close with a body": sized(b"x", b"Connection: close") + NEXT,
    "close in chunks": chunked(b"1\r\nx\r\n0\r\n\r\n", b"Connection: close") + NEXT,
    "close and more in another piece": [get(b"/a", b"Connection: close"), NEXT],
    "close of a push producer": get(b"/push", b"Connection: close") + NEXT,
    "close, deferred, and more": [get(b"/later", b"Connection: close"), NEXT, 1, 1],
    "HTTP/1.0 with a body": b"POST /a HTTP/1.0\r\nContent-Length: 4\r\n\r\nbody" + NEXT,
    "HTTP/1.0 POST without a length": b"POST /a HTTP/1.0\r\n\r\nbody",
    "HTTP/1.0 in a pipeline": get() + b"GET /b HTTP/1.0\r\n\r\n" + NEXT,
    "close of a client that reads nothing": [
        STOP_READING,
        get(b"/large", b"Connection: close") + NEXT,
        READ_AGAIN,
    ],
}

EXPECT = {
    "expect: " + name: [b"POST /a " + lines + b"\r\nContent-Length: 4\r\n\r\n", b"body" + NEXT]
    for name, lines in {
        "100-continue": b"HTTP/1.1\r\nHost: a\r\nExpect: 100-continue",
        "in capitals": b"HTTP/1.1\r\nHost: a\r\nEXPECT: 100-Continue",
        "with blanks": b"HTTP/1.1\r\nHost: a\r\nExpect:   100-continue  ",
        "HTTP/1.0": b"HTTP/1.0\r\nHost: a\r\nExpect: 100-continue",
        "something else": b"HTTP/1.1\r\nHost: a\r\nExpect: 200-ok",
        "nothing": b"HTTP/1.1\r\nHost: a\r\nExpect:",
        "twice": b"HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nExpect: 100-continue",
        "in a list": b"HTTP/1.1\r\nHost: a\r\nExpect: foo, 100-continue",
        "in the second header": b"HTTP/1.1\r\nHost: a\r\nExpect: x\r\nExpect: 100-continue",
        "with a parameter": b"HTTP/1.1\r\nHost: a\r\nExpect: 100-continue;q=1",
    }.items()
} | {
    "100-continue and the body at once": sized(b"body", b"Expect: 100-continue") + NEXT,
    "100-continue in chunks": [
        chunked(b"", b"Expect: 100-continue"),
        b"4\r\nbody\r\n0\r\n\r\n" + NEXT,
    ],
    "100-continue without a body": get(b"/a", b"Expect: 100-continue") + NEXT,
    "100-continue of length 0": sized(b"", b"Expect: 100-continue") + NEXT,
    "100-continue behind a deferred answer": [
        get(b"/later") + sized(b"body", b"Expect: 100-continue")[:-4],
        1,
        1,
        b"body" + NEXT,
    ],
    "100-continue with a wrong length": post(b"Expect: 100-continue", b"Content-Length: x") + NEXT,
}

TIMES = {
    "nothing is ever sent": [59, 2, 20],
    "idle after an answer": [get(), 59, 2, 20],
    "idle just long enough": [get(), 59, get(), 59, get(), 59],
    "a slow head": [get()[:10], 30, get()[10:20], 40],
    "a head that drips": [*(step for n in range(3) for step in (get()[n : n + 1], 40)), 61],
    "a slow body": [sized(b"0123456789")[:-9], 30, b"1", 59, b"2", 61, b"3456789", 20],
    "a slow chunk": [chunked(b"5\r\na"), 59, b"b", 61, 20],
    "an answer that never comes": [get(b"/never"), 600, 600],
    "an answer that never comes, and the client goes": [get(b"/never"), 600, END],
    "idle after a deferred answer": [get(b"/later"), 61, 61, 20],
    "idle, and the client does not read": [STOP_READING, get(b"/large"), 61, 14, 2],
    "a body that stops, and the client does not read": [
        STOP_READING,
        get(b"/large") + sized(b"0123456789")[:-3],
        61,
        16,
    ],
    "close, and the client does not read": [
        STOP_READING,
        get(b"/large", b"Connection: close"),
        61,
        61,
    ],
    "pushed data that the client does not read": [STOP_READING, get(b"/push"), 61, 61, READ_AGAIN],
    "400, and the client does not read": [STOP_READING, get(b"/large") + b"nonsense\r\n", 61, 61],
}

FILES = {
    "file: " + name: request(line, *headers) + NEXT
    for name, (line, *headers) in {
        "small": (b"GET /files/small.txt HTTP/1.1",),
        "empty": (b"GET /files/empty HTTP/1.1",),
        "large": (b"GET /files/large.bin HTTP/1.1",),
        "HEAD": (b"HEAD /files/small.txt HTTP/1.1",),
        "HEAD of a large one": (b"HEAD /files/large.bin HTTP/1.1",),
        "POST": (b"POST /files/small.txt HTTP/1.1",),
        "HTTP/1.0": (b"GET /files/small.txt HTTP/1.0",),
        "closed": (b"GET /files/small.txt HTTP/1.1", b"Connection: close"),
        "with a query": (b"GET /files/small.txt?a=b HTTP/1.1",),
        "with a slash behind": (b"GET /files/small.txt/ HTTP/1.1",),
        "with a path behind": (b"GET /files/small.txt/more HTTP/1.1",),
        "escaped name": (b"GET /files/a%20b%C3%A9.html HTTP/1.1",),
        "missing": (b"GET /files/missing HTTP/1.1",),
        "outside": (b"GET /files/../secret HTTP/1.1",),
        "outside, escaped": (b"GET /files/..%2Fsecret HTTP/1.1",),
        "NUL in the name": (b"GET /files/%00 HTTP/1.1",),
        "index": (b"GET /files/indexed/ HTTP/1.1",),
        "folder without a slash": (b"GET /files/indexed HTTP/1.1",),
        "range": (b"GET /files/small.txt HTTP/1.1", b"Range: bytes=2-4"),
        "range to the end": (b"GET /files/large.bin HTTP/1.1", b"Range: bytes=199000-"),
        "range of the end": (b"GET /files/small.txt HTTP/1.1", b"Range: bytes=-3"),
        "range beyond": (b"GET /files/small.txt HTTP/1.1", b"Range: bytes=99-"),
        "range that is none": (b"GET /files/small.txt HTTP/1.1", b"Range: lines=1-2"),
        "range, HEAD": (b"HEAD /files/small.txt HTTP/1.1", b"Range: bytes=2-4"),
        "not modified": (
            b"GET /files/small.txt HTTP/1.1",
            b"If-Modified-Since: Sun, 09 Sep 2001 01:46:40 GMT",
        ),
        "modified": (
            b"GET /files/small.txt HTTP/1.1",
            b"If-Modified-Since: Sun, 09 Sep 2000 01:46:40 GMT",
        ),
        "If-None-Match": (b"GET /files/small.txt HTTP/1.1", b"If-None-Match: *"),
        "gzip": (b"GET /gzip/plain HTTP/1.1", b"Accept-Encoding: gzip"),
        "gzip of chunks": (b"GET /gzip/chunks HTTP/1.1", b"Accept-Encoding: br, gzip"),
        "gzip, HEAD": (b"HEAD /gzip/plain HTTP/1.1", b"Accept-Encoding: gzip"),
        "gzip of nothing": (b"GET /gzip/empty HTTP/1.1", b"Accept-Encoding: gzip"),
        "gzip not asked for": (b"GET /gzip/plain HTTP/1.1",),
    }.items()
} | {
    "a client that does not read a file": [
        STOP_READING,
        get(b"/files/large.bin") + NEXT,
        1,
        READ_AGAIN,
    ],
    "files in a pipeline": get(b"/files/small.txt") + get(b"/files/large.bin") + get(b"/files/x"),
}

REFUSED = None  # no resource sees the request, and the connection ends
WAITS = "it waits for the rest of the body"


def may(body):
    """It may be accepted with that body, and be refused too."""
    return (REFUSED, body)


BODY = b"5\r\nhello\r\n0\r\n\r\n"


def _smuggling():
    """Yield name, conversation, and the bodies that resources see where RFC 9112 accepts it."""
    yield (
        "both, length first",
        post(b"Content-Length: 4", b"Transfer-Encoding: chunked", body=BODY),
        REFUSED,
    )
    yield (
        "both, coding first",
        post(b"Transfer-Encoding: chunked", b"Content-Length: 15", body=BODY),
        REFUSED,
    )
    yield (
        "both, length 0",
        post(b"Content-Length: 0", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        REFUSED,
    )
    yield (
        "both, coding identity",
        post(b"Content-Length: 5", b"Transfer-Encoding: identity", body=b"hello"),
        REFUSED,
    )
    for name, value, verdict in [
        ("+5", b"+5", REFUSED),
        ("-5", b"-5", REFUSED),
        ("-0", b"-0", REFUSED),
        ("0x5", b"0x5", REFUSED),
        ("05", b"05", b"hello"),
        ("blanks around", b"  5\t ", b"hello"),
        ("a blank within", b"5 5", REFUSED),
        ("a vertical tab before", b"\x0b5", REFUSED),
        ("a form feed after", b"5\x0c", REFUSED),
        ("a no-break space after", b"5\xa0", REFUSED),
        ("underscore", b"5_0", REFUSED),
        ("empty", b"", REFUSED),
        ("a point", b"5.0", REFUSED),
        ("an exponent", b"5e0", REFUSED),
        ("a superscript", b"\xb2", REFUSED),
        ("Arabic digits", b"\xd9\xa5", REFUSED),
        ("NUL after", b"5\0", REFUSED),
        ("a letter after", b"5a", REFUSED),
        ("a semicolon", b"5;x", REFUSED),
        ("quoted", b'"5"', REFUSED),
        ("a list, equal", b"5, 5", may(b"hello")),
        ("a list, unequal", b"5, 6", REFUSED),
        ("a list, empty", b"5,", REFUSED),
        ("a comma alone", b",", REFUSED),
        ("2 to the 63", b"9223372036854775808", (REFUSED, WAITS)),
        ("2 to the 64 and 5", b"18446744073709551621", (REFUSED, WAITS)),
        ("5,000 digits", b"9" * 5_000, REFUSED),
        ("folded", b"\r\n 5", may(b"hello")),
        ("folded in the middle", b"5\r\n 0", REFUSED),
        ("a bare CR before", b"\r5", REFUSED),
    ]:
        yield f"length: {name}", post(b"Content-Length: " + value, body=b"hello"), verdict
    length = b"Content-Length: 5"
    yield "length twice, equal", post(length, length, body=b"hello"), may(b"hello")
    yield "length twice, unequal", post(length, b"Content-Length: 6", body=b"hello"), REFUSED
    yield "length twice, 0 first", post(b"Content-Length: 0", length, body=b"hello"), REFUSED
    yield (
        "length with a blank before the colon",
        post(b"Content-Length : 5", body=b"hello"),
        REFUSED,
    )
    yield "length behind a bare LF", post(b"X: y\nContent-Length: 5", body=b"hello"), REFUSED
    yield "length behind a bare CR", post(b"X: y\rContent-Length: 5", body=b"hello"), REFUSED
    yield "length behind an obs-fold", post(b"X: y\r\n Content-Length: 5", body=b"hello"), may(b"")
    yield "length with an underscore in the name", post(b"Content_Length: 5", body=b""), b""
    yield "length in capitals", post(b"CONTENT-LENGTH: 5", body=b"hello"), b"hello"
    yield "length with NUL in the name", post(b"Content-Length\0: 5", body=b"hello"), REFUSED
    yield "length in GET", request(b"GET /a HTTP/1.1", length, body=b"hello"), b"hello"
    yield "length in HTTP/1.0", b"POST /a HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello", b"hello"
    for name, value, verdict in [
        ("chunked", b"chunked", b"hello"),
        ("Chunked", b"Chunked", b"hello"),
        ("a blank after", b"chunked ", b"hello"),
        ("a tab before", b"\tchunked", b"hello"),
        ("a vertical tab before", b"\x0bchunked", REFUSED),
        ("a vertical tab after", b"chunked\x0b", REFUSED),
        ("a form feed before", b"\x0cchunked", REFUSED),
        ("a no-break space before", b"\xa0chunked", REFUSED),
        ("NUL before", b"\0chunked", REFUSED),
        ("NUL after", b"chunked\0", REFUSED),
        ("a bare CR before", b"\rchunked", REFUSED),
        ("xchunked", b"xchunked", REFUSED),
        ("chunkedx", b"chunkedx", REFUSED),
        ("x chunked", b"x chunked", REFUSED),
        ("chunked foo", b"chunked foo", REFUSED),
        ("quoted", b'"chunked"', REFUSED),
        ("a parameter", b"chunked;x=y", REFUSED),
        ("gzip, chunked", b"gzip, chunked", REFUSED),  # 501 is what the RFC wants
        ("chunked, gzip", b"chunked, gzip", REFUSED),
        ("chunked, identity", b"chunked, identity", REFUSED),
        ("identity, chunked", b"identity, chunked", REFUSED),
        ("chunked, chunked", b"chunked, chunked", REFUSED),
        ("a comma before", b",chunked", REFUSED),
        ("a comma after", b"chunked,", REFUSED),
        ("identity", b"identity", REFUSED),
        ("gzip", b"gzip", REFUSED),
        ("empty", b"", REFUSED),
        ("a comma", b",", REFUSED),
        ("trailers", b"trailers", REFUSED),
        ("folded", b"\r\n chunked", may(b"hello")),
        ("folded in a list", b"chunked,\r\n identity", REFUSED),
        ("folded behind", b"chunked\r\n ", may(b"hello")),
        ("folded in the word", b"chu\r\n nked", REFUSED),
        ("8-bit", b"chunk\xc3\xa9d", REFUSED),
    ]:
        yield f"coding: {name}", post(b"Transfer-Encoding: " + value, body=BODY), verdict
    coding = b"Transfer-Encoding: chunked"
    yield "coding twice", post(coding, coding, body=BODY), REFUSED
    yield (
        "coding twice, identity second",
        post(coding, b"Transfer-Encoding: identity", body=BODY),
        REFUSED,
    )
    yield (
        "coding twice, identity first",
        post(b"Transfer-Encoding: identity", coding, body=BODY),
        REFUSED,
    )
    yield (
        "coding twice, nonsense second",
        post(coding, b"Transfer-Encoding: x", body=BODY),
        REFUSED,
    )
    yield (
        "coding with a blank before the colon",
        post(b"Transfer-Encoding : chunked", body=BODY),
        REFUSED,
    )
    yield "coding with a fold before", post(b"X: y\r\n Transfer-Encoding: chunked"), may(b"")
    yield "coding behind a bare LF", post(b"X: y\nTransfer-Encoding: chunked", body=BODY), REFUSED
    yield "coding behind a bare CR", post(b"X: y\rTransfer-Encoding: chunked", body=BODY), REFUSED
    yield "coding with a bare LF behind", post(coding + b"\nX: y", body=BODY), REFUSED
    yield "coding with an underscore in the name", post(b"Transfer_Encoding: chunked"), b""
    yield (
        "coding in HTTP/1.0",
        b"POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + BODY,
        (may(b"hello")),
    )
    yield (
        "coding and length in HTTP/1.0",
        (b"POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\nContent-Length: 15\r\n\r\n" + BODY),
        REFUSED,
    )
    yield "coding in GET", request(b"GET /a HTTP/1.1", coding, body=BODY), b"hello"
    yield "coding in HEAD", request(b"HEAD /a HTTP/1.1", coding, body=BODY), b"hello"
    for name, body, verdict in [
        ("one", BODY, b"hello"),
        ("two", b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", b"hello"),
        ("capitals", b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        ("small letters", b"a\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        ("zeros before", b"000005\r\nhello\r\n0000\r\n\r\n", b"hello"),
        ("+5", b"+5\r\nhello\r\n0\r\n\r\n", REFUSED),
        ("-5", b"-5\r\nhello\r\n0\r\n\r\n", REFUSED),
        ("0x5", b"0x5\r\nhello\r\n0\r\n\r\n", REFUSED),
        ("5_0", b"0_5\r\nhello\r\n0\r\n\r\n", REFUSED),
        ("a blank before", b" 5\r\nhello\r\n0\r\n\r\n", REFUSED),
        ("a blank after", b"5 \r\nhello\r\n0\r\n\r\n", REFUSED),
        ("a blank within", b"0 5\r\nhello\r\n0\r\n\r\n", REFUSED),
        ("a tab after", b"5\t\r\nhello\r\n0\r\n\r\n", REFUSED),
        ("a letter after", b"5g\r\nhello\r\n0\r\n\r\n", REFUSED),
        ("no size", b"\r\nhello\r\n0\r\n\r\n", REFUSED),
        ("no size but an extension", b";a\r\nhello\r\n0\r\n\r\n", REFUSED),
        ("a superscript", b"\xb2\r\nhe\r\n0\r\n\r\n", REFUSED),
        ("a quoted size", b'"5"\r\nhello\r\n0\r\n\r\n', REFUSED),
        ("2 to the 64", b"10000000000000005\r\nhello\r\n0\r\n\r\n", (REFUSED, WAITS)),
        ("17 digits, zeros", b"00000000000000005\r\nhello\r\n0\r\n\r\n", b"hello"),
        ("extension", b"5;a\r\nhello\r\n0;b\r\n\r\n", b"hello"),
        ("extension with a value", b"5;a=b;c=d\r\nhello\r\n0\r\n\r\n", b"hello"),
        ("extension, quoted", b'5;a="b c;d"\r\nhello\r\n0\r\n\r\n', b"hello"),
        ("extension with blanks", b"5 ; a = b\r\nhello\r\n0\r\n\r\n", may(b"hello")),  # BWS
        ("extension, empty", b"5;\r\nhello\r\n0\r\n\r\n", may(b"hello")),
        ("extension with a bare CR", b"5;a\rb\r\nhello\r\n0\r\n\r\n", REFUSED),
        ("extension with a bare LF", b"5;a\nhello\r\n0\r\n\r\n", REFUSED),
        ("extension with NUL", b"5;a\0\r\nhello\r\n0\r\n\r\n", REFUSED),
        ("extension with a quoted CR", b'5;a="\r"\r\nhello\r\n0\r\n\r\n', REFUSED),
        ("extension with a quoted LF", b'5;a="\n"\r\nhello\r\n0\r\n\r\n', REFUSED),
        ("extension with a quoted CRLF", b'5;a="\r\n"\r\nhello\r\n0\r\n\r\n', REFUSED),
        ("extension, the quote open", b'5;a="b\r\nhello\r\n0\r\n\r\n', may(b"hello")),
        ("extension of 8 bits", b"5;a=\xe9\r\nhello\r\n0\r\n\r\n", may(b"hello")),
        ("extension of 900 bytes", b"5;" + b"a" * 900 + b"\r\nhello\r\n0\r\n\r\n", b"hello"),
        ("extension of 20 kB", b"5;" + b"a" * 20_000 + b"\r\nhello\r\n0\r\n\r\n", REFUSED),
        (
            "extensions of 900 bytes, 40 times",
            (b"1;" + b"a" * 900 + b"\r\nx\r\n") * 40 + b"0\r\n\r\n",
            may(b"x" * 40),
        ),
        (
            "extensions of 900 bytes, 400 times",
            (b"1;" + b"a" * 900 + b"\r\nx\r\n") * 400 + b"0\r\n\r\n",
            may(b"x" * 400),
        ),
        ("3,000 of a byte each", b"1\r\nx\r\n" * 3000 + b"0\r\n\r\n", b"x" * 3000),
        ("a size of 2,000 zeros", b"0" * 2_000 + b"5\r\nhello\r\n0\r\n\r\n", REFUSED),
        ("LF after the size", b"5\nhello\r\n0\r\n\r\n", REFUSED),
        ("CR after the size", b"5\rhello\r\n0\r\n\r\n", REFUSED),
        ("CR CR LF after the size", b"5\r\r\nhello\r\n0\r\n\r\n", REFUSED),
        ("LF after the data", b"5\r\nhello\n0\r\n\r\n", REFUSED),
        ("CR after the data", b"5\r\nhello\r0\r\n\r\n", REFUSED),
        ("nothing after the data", b"5\r\nhello0\r\n\r\n", REFUSED),
        ("more data than its size", b"5\r\nhello!\r\n0\r\n\r\n", REFUSED),
        ("two bytes after the data", b"5\r\nhelloXX0\r\n\r\n", REFUSED),
        ("LF after the last", b"5\r\nhello\r\n0\n\r\n", REFUSED),
        ("LF at the end", b"5\r\nhello\r\n0\r\n\n", REFUSED),
        ("CR at the end", b"5\r\nhello\r\n0\r\n\r", REFUSED),
        ("two bytes at the end", b"5\r\nhello\r\n0\r\nXX", REFUSED),
        ("a negative last", b"5\r\nhello\r\n-0\r\n\r\n", REFUSED),
        ("a trailer", b"5\r\nhello\r\n0\r\nX: y\r\n\r\n", b"hello"),
        ("two trailers", b"5\r\nhello\r\n0\r\nX: y\r\nZ: w\r\n\r\n", b"hello"),
        ("length in a trailer", b"5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n", b"hello"),
        (
            "coding in a trailer",
            b"5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"hello",
        ),
        ("Host in a trailer", b"5\r\nhello\r\n0\r\nHost: b.example\r\n\r\n", b"hello"),
        ("a request in a trailer", b"0\r\nGET /b HTTP/1.1\r\nHost: b\r\n\r\n", REFUSED),
        ("a trailer without a colon", b"0\r\nX\r\n\r\n", REFUSED),
        ("a trailer with a blank before the colon", b"0\r\nX : y\r\n\r\n", REFUSED),
        ("a trailer with a bare LF", b"0\r\nX: y\nZ: w\r\n\r\n", REFUSED),
        ("a trailer with a bare CR", b"0\r\nX: y\rZ: w\r\n\r\n", REFUSED),
        ("a trailer with NUL", b"0\r\nX: \0\r\n\r\n", REFUSED),
        ("a folded trailer", b"0\r\nX: y\r\n z\r\n\r\n", may(b"")),
        ("trailers that end with LF", b"0\r\nX: y\r\n\n", REFUSED),
        ("a trailer of 20 kB", b"0\r\nX: " + b"y" * 20_000 + b"\r\n\r\n", may(b"")),
        ("a trailer of 70 kB", b"0\r\nX: " + b"y" * 70_000 + b"\r\n\r\n", REFUSED),
        ("600 trailers", b"0\r\n" + b"X: y\r\n" * 600 + b"\r\n", may(b"")),
    ]:
        yield f"chunk: {name}", post(coding, body=body), verdict


# Each is followed by another request, which shows where the server believes the first ends.
SMUGGLING = {name: (data + NEXT, verdict) for name, data, verdict in _smuggling()}

GROUPS = {
    "well-formed": WELL_FORMED,
    "answers": ANSWERS,
    "request lines": REQUEST_LINES,
    "headers": HEADERS,
    "connections": CONNECTIONS,
    "expect": EXPECT,
    "files": FILES,
    "times": TIMES,
    "smuggling": {name: data for name, (data, _) in SMUGGLING.items()},
}
