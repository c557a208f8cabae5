"""curl, as a command; its time includes its start, which takes some milliseconds."""

import os
import subprocess
import time

from benchmarks.http.job import Job, Outcome


def run(job: Job) -> Outcome:
    """Run."""
    one = job.requests == 1
    url = job.url if one else f"{job.url}?[1-{job.requests}]"
    # Many small bodies to /dev/null: it is the transfers that are compared.
    words = ["curl", "--silent", "--fail", "--output", job.save or "/dev/null", url]
    if not one:
        words += ["--parallel", "--parallel-immediate", "--parallel-max", str(job.connections)]
    if job.authority:
        words += ["--cacert", job.authority]
    begun = time.perf_counter()
    process = subprocess.Popen(words)  # noqa: S603 # our own words
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begun
    failed = job.requests if status else 0
    return Outcome(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, failed)
