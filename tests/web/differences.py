"""Where the fast channel answers otherwise than twisted.web's, on purpose.

By the reason, the conversations, each with what comes of it. All names are in `conversations`.
"""

REFUSED = "0 seen, 400, closed"

_BY_REASON = {
    "RFC 9112, 5.2: a folded line may be refused, and two servers may read it in two ways": {
        "header: obs-fold": REFUSED,
        "header: obs-fold with a tab": REFUSED,
        "header: obs-fold of blanks": REFUSED,
        "header: obs-fold three times": REFUSED,
        "header: obs-fold of an empty value": REFUSED,
        "header: a blank at the start": REFUSED,
        "header: a tab at the start": REFUSED,
        "length: folded": REFUSED,
        "length behind an obs-fold": REFUSED,
        "coding: folded": REFUSED,
        "coding: folded behind": REFUSED,
        "coding with a fold before": REFUSED,
    },
    "RFC 9110, 5.5: no field value has control characters, but the tab": {
        "header: CTL in the value": REFUSED,
        "header: ESC in the value": REFUSED,
        "header: DEL in the value": REFUSED,
        "header: VT in the value": REFUSED,
        "header: VT before the value": REFUSED,
    },
    "RFC 9112, 3.2: a request with two Host lines must be refused": {
        "header: Host twice": REFUSED,
        "header: Host twice, the same": REFUSED,
    },
    "RFC 9112, 3.2: a target is a path, a URL, an authority for CONNECT, or an asterisk": {
        "line: authority-form with GET": REFUSED,
        "line: a path without a slash": REFUSED,
        "line: a query alone": REFUSED,
        "line: DEL in the target": REFUSED,
    },
    "RFC 9112, 7: there is no transfer coding `identity`": {
        "both, coding identity": REFUSED,
        "coding: identity": REFUSED,
        "coding twice, identity first": REFUSED,
        "coding twice, identity second": REFUSED,
    },
    "RFC 9112, 6.1: HTTP/1.0 has no transfer codings": {"coding in HTTP/1.0": REFUSED},
    "a body that cannot be": {
        "length: 2 to the 64 and 5": REFUSED,
        "length: 5,000 digits": REFUSED,  # stock fails with an exception
    },
    "RFC 9112, 7.1.2: a trailer has header lines; stock takes what follows for trailers": {
        "chunk: LF at the end": REFUSED,
        "chunk: CR at the end": REFUSED,
        "chunk: two bytes at the end": REFUSED,
        "chunk: a request in a trailer": REFUSED,
        "chunk: a trailer without a colon": REFUSED,
        "chunk: a trailer with a blank before the colon": REFUSED,
        "chunk: a trailer with a bare LF": REFUSED,
        "chunk: a trailer with a bare CR": REFUSED,
        "chunk: a trailer with NUL": REFUSED,
        "chunk: a folded trailer": REFUSED,
        "chunk: trailers that end with LF": REFUSED,
    },
    "stock closes without a word": {
        "line: a target of 20 kB": REFUSED,
        "line: a method of 20 kB": REFUSED,
        "an endless line": REFUSED,
        "header: a value of 16,384 bytes": REFUSED,
        "header: a value of 40 kB": REFUSED,
        "header: a name of 40 kB": REFUSED,
        "a header that does not end": REFUSED,
    },
    "what surrounds the chunks is limited beside the data, not only line by line": {
        "chunk: extensions of 900 bytes, 400 times": REFUSED,
    },
    "a line break in a reason must not begin a header line": {
        "answer: broken_reason": "2 seen, 200 200, open",
    },
    "RFC 9110, 7.6.1: Connection is a list": {
        "connection: close in a list": "1 seen, 200, closed",
        "connection: close without a blank": "1 seen, 200, closed",
        "connection: close in the second header": "1 seen, 200, closed",
        "connection: close and keep-alive": "1 seen, 200, closed",
        "connection: close with a tab": "1 seen, 200, closed",
    },
    "the time for a head starts with its first byte, and more bytes do not prolong it": {
        "a slow head": "0 seen, no answer, closed",
        "a head that drips": "0 seen, no answer, closed",
        "a line that does not end": "0 seen, no answer, closed",
    },
    "what follows is parsed when the client has read the answer before": {
        "400, and the client does not read": "1 seen, no answer, aborted",
    },
}

DIFFERENCES = {
    name: outcome
    for conversations in _BY_REASON.values()
    for name, outcome in conversations.items()
}
