"""What a page answers, before it is an HTTP response."""

from collections.abc import Callable
from http import HTTPStatus

from attrs import frozen


TEXT = "text/plain; charset=utf-8"


@frozen
class Answer:
    """A response: status code, body, its type, and who may run or load what in a browser."""

    body: bytes
    status: HTTPStatus = HTTPStatus.OK
    content_type: str = TEXT
    policy: str = "default-src 'none'; frame-ancestors 'none'"  # Content-Security-Policy


# A page is told what the client accepts (the Accept header, "" if there is none).
AnswerTo = Callable[[str], Answer]


def plain(text: str, status: HTTPStatus = HTTPStatus.OK) -> Answer:
    """Return a line of text."""
    return Answer(f"{text}\n".encode(), status)
