"""Becomes the program named on the command line, in a session of its own.

Ctrl-C on the terminal is then the lab's to handle, one signal reaches all the program's
processes, and the kernel ends the program should the lab be killed.
"""

import ctypes
import os
import resource
import signal
import sys


PR_SET_PDEATHSIG = 1  # prctl(2)


def main(parent: int, words: list[str]) -> None:
    """Prepare this process and turn into the program; `parent` is the lab's process."""
    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended meanwhile
        sys.exit(1)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and children inherit that
    try:
        os.execv(words[0], words)  # noqa: S606 - it is the lab that chose the words
    except OSError as error:
        sys.exit(f"{words[0]}: {error.strerror}")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
