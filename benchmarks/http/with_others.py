"""Clients that have nothing to do with Twisted: aiohttp on uvloop, requests on gevent, curl."""

import os
import ssl
import subprocess
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.http.job import Job, Outcome, Run


def run_aiohttp(job: Job) -> Outcome:
    """Run a job with aiohttp on uvloop."""
    asyncio, aiohttp, uvloop = map(import_module, ("asyncio", "aiohttp", "uvloop"))
    run = Run(job)

    async def worker(session: Any) -> None:
        while (url := run.next_url()) is not None:
            async with session.get(url) as response:
                if job.save:
                    with Path(job.save).open("wb", buffering=0) as file:
                        async for data in response.content.iter_any():
                            file.write(data)
                else:
                    await response.read()

    async def main() -> None:
        context = ssl.create_default_context(cafile=job.authority) if job.authority else True
        connector = aiohttp.TCPConnector(limit=job.connections, ssl=context)
        async with aiohttp.ClientSession(connector=connector) as session:
            run.begin()
            await asyncio.gather(*[worker(session) for _ in range(job.connections)])

    uvloop.run(main())
    return run.outcome()


def run_gevent(job: Job) -> Outcome:
    """Run a job with requests on gevent."""
    import_module("gevent.monkey").patch_all()
    gevent, requests = import_module("gevent"), import_module("requests")
    session = requests.Session()
    adapter = requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=job.connections)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    session.verify = job.authority or True
    run = Run(job)

    def worker() -> None:
        while (url := run.next_url()) is not None:
            with session.get(url, stream=bool(job.save)) as response:
                if job.save:
                    with Path(job.save).open("wb", buffering=0) as file:
                        file.writelines(response.iter_content(65536))

    run.begin()
    gevent.joinall([gevent.spawn(worker) for _ in range(job.connections)])
    return run.outcome()


def run_curl(job: Job) -> Outcome:
    """Run a job with the command curl. Its time includes some milliseconds to start it."""
    is_single = job.requests == 1
    url = job.url if is_single else f"{job.url}?[1-{job.requests}]"
    words = ["curl", "--silent", "--fail", "--output", job.save or "/dev/null", url]
    if not is_single:
        words += ["--parallel", "--parallel-immediate", "--parallel-max", str(job.connections)]
    if job.authority:
        words += ["--cacert", job.authority]
    begun_at = time.perf_counter()
    process = subprocess.Popen(words)  # noqa: S603 # our own words
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begun_at
    failed = job.requests if status else 0
    return Outcome(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, failed)
