"""The client alone (`client`): every body is hashed, or written to a file."""

import hashlib
from pathlib import Path
from typing import Any

from attrs import define
from twisted.application.reactors import installReactor
from twisted.internet.ssl import Certificate, trustRootFromCertificates

from benchmarks.http.job import Job, Outcome, Run
from evserve.http.client import Client
from evserve.http.connect import TLS
from evserve.http.headers import Head
from evserve.http.request import Request
from evserve.http.settings import Settings
from evserve.http.url import URL, parse_url


def run(job: Job) -> Outcome:
    """Run on the uvloop reactor, evserve's default."""
    return _run(job, "uvloop")


def run_epoll(job: Job) -> Outcome:
    """Run on Twisted's own reactor."""
    return _run(job, "epoll")


@define(eq=False)
class _Crawl:
    run: Run
    reactor: Any
    client: Client
    left: int

    def begin(self) -> None:
        self.run.begin()
        for _ in range(self.run.job.connections):
            self.next()

    def next(self) -> None:
        url = self.run.next_url()
        if url is not None:
            self.client.fetch(Request(parse_url(url)), _Receiver(self))

    def ended(self, error: Exception | None) -> None:
        self.run.failed += error is not None
        self.left -= 1
        if self.left:
            self.next()
        else:
            self.client.close()
            self.reactor.stop()


class _Receiver:
    def __init__(self, crawl: _Crawl) -> None:
        self._crawl = crawl
        self._hash = hashlib.sha256()
        save = crawl.run.job.save
        self._file = Path(save).open("wb", buffering=0) if save else None  # noqa: SIM115 # see finished

    def started(self, head: Head, url: URL) -> None:
        pass

    def received(self, data: bytes) -> None:
        if self._file is None:
            self._hash.update(data)
        else:  # only written, as curl does
            self._file.write(data)

    def finished(self, error: Exception | None) -> None:
        if self._file is None:
            self._hash.hexdigest()
        else:
            self._file.close()
        self._crawl.ended(error)


def make_client(job: Job, reactor: Any) -> Client:
    """Return a client with as many connections as the job says."""
    tls = TLS()
    if job.authority:
        trusted = Certificate.loadPEM(Path(job.authority).read_bytes())
        tls = TLS(trustRootFromCertificates([trusted]))
    settings = Settings(per_origin=job.connections, connections=job.connections)
    return Client(reactor, settings, tls=tls)


def _run(job: Job, name: str) -> Outcome:
    installReactor(name)
    from twisted.internet import reactor

    crawl = _Crawl(Run(job), reactor, make_client(job, reactor), job.requests)
    started: Any = reactor
    started.callWhenRunning(crawl.begin)
    started.run()
    return crawl.run.outcome()
