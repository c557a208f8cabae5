"""Runs `twistd` in forks of a process that has imported it, because most of a start is imports.

Each line of standard input is a JSON list, the words of a command and its folder; the answer is a
line with its exit status, output and errors.
"""

import json
import os
import sys
import tempfile

from twisted.scripts.twistd import run

import evserve.host.command
import evserve.reactor.core  # noqa: F401 - so that no fork imports them


def run_in_fork(words, folder):
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            os.chdir(folder)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            sys.argv[:] = words
            sys.exit(run())
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="surrogateescape"))
        return status, *texts


for line in sys.stdin:
    print(json.dumps(run_in_fork(*json.loads(line))), flush=True)
