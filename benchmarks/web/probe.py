"""Asks a server once, checks the answer, and takes its length."""

import socket

from attrs import define, field
from httptools import HttpResponseParser

from benchmarks.reactor.measure import Load, Server
from benchmarks.web.scenarios import Scenario


@define
class _Answer:
    """What the parser finds."""

    body: bytearray = field(factory=bytearray)
    complete: bool = False

    def on_body(self, data: bytes) -> None:
        """Keep a piece of the body."""
        self.body += data

    def on_message_complete(self) -> None:
        """Note the end."""
        self.complete = True


def probe(server: Server, scenario: Scenario) -> Load:
    """Return the load of a scenario, for which the length of the answer must be known.

    A wrong answer raises ValueError.
    """
    answer = _Answer()
    parser = HttpResponseParser(answer)
    length = 0
    with socket.create_connection(("127.0.0.1", server.port), 60) as client:
        client.sendall(scenario.request)
        while not answer.complete:
            data = client.recv(65536)
            if not data:
                raise ValueError(f"{scenario.path}: the server closed")
            length += len(data)
            parser.feed_data(data)
    if parser.get_status_code() != 200 or answer.body != scenario.answer:  # noqa: PLR2004  # OK
        raise ValueError(f"{scenario.path}: {parser.get_status_code()} {bytes(answer.body)!r:.80}")
    return Load(scenario.connections, scenario.request, length, scenario.depth)
