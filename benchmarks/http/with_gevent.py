"""requests on gevent."""

from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.http.job import Job, Outcome, Run


def run(job: Job) -> Outcome:
    """Run."""
    import_module("gevent.monkey").patch_all()
    gevent, requests = import_module("gevent"), import_module("requests")
    session = requests.Session()
    adapter = requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=job.connections)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    session.verify = job.authority or True
    run = Run(job)
    run.begin()
    gevent.joinall([gevent.spawn(_worker, session, run) for _ in range(job.connections)])
    return run.outcome()


def _worker(session: Any, run: Run) -> None:
    while (url := run.next_url()) is not None:
        with session.get(url, stream=bool(run.job.save)) as response:
            if run.job.save:
                with Path(run.job.save).open("wb", buffering=0) as file:
                    file.writelines(response.iter_content(65536))
