"""Executes the program named on the command line in a session of its own.

So Ctrl-C on the terminal reaches only the lab, one signal reaches all processes of the program,
and the kernel ends the program if the lab is killed.
"""

import ctypes
import os
import resource
import signal
import sys


PR_SET_PDEATHSIG = 1  # prctl(2)


def main(parent: int, words: list[str]) -> None:
    """Prepare this process and execute the program; `parent` is the pid of the lab."""
    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the lab has ended before prctl took effect
        sys.exit(1)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # children inherit that Python ignores it
    try:
        os.execv(words[0], words)  # noqa: S606 - the words come from the lab
    except OSError as error:
        sys.exit(f"{words[0]}: {error.strerror}")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
