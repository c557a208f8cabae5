"""Counting the instructions that a server executes for each answer, under valgrind.

Unlike seconds of CPU they are the same on a busy machine. They leave out what the kernel does,
which is most of an echo; so this finds out what a change is worth, not who is faster. Answers that
are slow under valgrind, such as a web server's, want several `--seconds` for a steady figure.
"""

import re
import subprocess
from pathlib import Path
from shutil import which

from benchmarks.reactor.measure import Load, client, running


_TOTAL = re.compile(r"^totals: (\d+)", re.MULTILINE)
_TOOLS = "valgrind", "callgrind_control"


def missing_tools() -> list[str]:
    """Return the programs that this needs and that are not there."""
    return [each for each in _TOOLS if which(each) is None]


def count(
    program: str, command: list[str], load: Load, seconds: float, folder: str
) -> tuple[float, int]:
    """Return instructions for each answer, and the number of answers."""
    written = Path(folder, "callgrind")
    words = [f"--callgrind-out-file={written}", "--instr-atstart=no"]
    tool = [which("valgrind") or "valgrind", "-q", "--tool=callgrind", *words]
    with running([*tool, *command]) as server:
        with client(program, server, load, seconds) as warming:
            warming.work(server)
        with client(program, server, load, seconds) as working:
            _tell(server.process.pid, "--instr=on")
            answers = working.work(server).answers
            _tell(server.process.pid, "--dump")
    dumped = "".join(each.read_text() for each in Path(folder).glob("callgrind*"))
    found = sum(int(each) for each in _TOTAL.findall(dumped))
    return found / max(answers, 1), answers


def _tell(pid: int, *words: str) -> None:
    control = which("callgrind_control") or "callgrind_control"
    subprocess.run([control, *words, str(pid)], check=True, capture_output=True)  # noqa: S603  # ours
