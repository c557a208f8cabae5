"""aiohttp on uvloop."""

import asyncio
import ssl
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.http.job import Job, Outcome, Run


def run(job: Job) -> Outcome:
    """Run."""
    aiohttp, uvloop = import_module("aiohttp"), import_module("uvloop")
    run = Run(job)
    uvloop.run(_main(aiohttp, run))
    return run.outcome()


async def _main(aiohttp: Any, run: Run) -> None:
    job = run.job
    context = ssl.create_default_context(cafile=job.authority) if job.authority else True
    connector = aiohttp.TCPConnector(limit=job.connections, ssl=context)
    async with aiohttp.ClientSession(connector=connector) as session:
        run.begin()
        await asyncio.gather(*[_worker(session, run) for _ in range(job.connections)])


async def _worker(session: Any, run: Run) -> None:
    while (url := run.next_url()) is not None:
        async with session.get(url) as response:
            if run.job.save:
                with Path(run.job.save).open("wb", buffering=0) as file:  # as all here
                    async for data in response.content.iter_any():
                        file.write(data)
            else:
                await response.read()
