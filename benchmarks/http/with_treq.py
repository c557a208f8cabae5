"""treq on Twisted's agent, and on evserve.http."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, HTTPConnectionPool
from twisted.web.iweb import IAgent

from benchmarks.http.job import Job, Outcome, Run
from evserve.http import agent as own
from evserve.http.client import Client
from evserve.http.connect import TLS
from evserve.http.settings import Settings


def run(job: Job) -> Outcome:
    """Run a job on Twisted's agent."""

    def make(reactor: Any, trust: Any) -> IAgent:
        pool = HTTPConnectionPool(reactor)
        pool.maxPersistentPerHost = job.connections
        policy = BrowserLikePolicyForHTTPS(trustRoot=trust)
        stock: IAgent = Agent(reactor, policy, pool=pool)
        return stock

    return _run(job, make)


def run_over_evserve(job: Job) -> Outcome:
    """Run a job on evserve.http."""

    def make(reactor: Any, trust: Any) -> IAgent:
        settings = Settings(per_origin=job.connections, connections=job.connections)
        return own.Agent(Client(reactor, settings, tls=TLS(trust)))

    return _run(job, make)


def _run(job: Job, make: Callable[[Any, Any], IAgent]) -> Outcome:
    from treq.client import HTTPClient
    from twisted.internet import reactor as installed

    reactor: Any = installed
    trust = None
    if job.authority:
        certificate = Certificate.loadPEM(Path(job.authority).read_bytes())
        trust = trustRootFromCertificates([certificate])
    run = Run(job)
    client = HTTPClient(make(reactor, trust))

    async def worker() -> None:
        while (url := run.next_url()) is not None:
            response = await client.get(url, unbuffered=bool(job.save))
            if job.save:
                with Path(job.save).open("wb", buffering=0) as file:
                    await response.collect(lambda data: (file.write(data), None)[1])
            else:
                await response.content()

    async def main() -> None:
        run.begin()
        await gatherResults([Deferred.fromCoroutine(worker()) for _ in range(job.connections)])
        reactor.stop()

    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(main()))
    reactor.run()
    return run.outcome()
