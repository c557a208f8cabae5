"""A terminal for tests of progress bars: what it shows after a program has written to it."""

import re
import sys

from tests.integration.commands import EVSERVE
from tests.integration.processes import Child


_PART = re.compile(r"\x1b\[\??([0-9;]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)")


class Terminal:
    """Shows text in `lines`, as far as progress bars need it: nothing wraps or scrolls."""

    def __init__(self):
        self.lines = [""]
        self.row = self.column = 0
        self.cursor_is_shown = True

    def show(self, text):
        for part in _PART.finditer(text):
            number, letter, control, plain = part.groups()
            if letter:
                self._command(number, letter)
            elif control == "\r":
                self.column = 0
            elif control == "\n":
                self.row += 1
                self.lines += [""] * (self.row + 1 - len(self.lines))
            else:
                self._write(plain)
        return self

    def _command(self, number, letter):
        if letter == "A":
            self.row -= int(number or 1)
        elif letter == "K":
            keep = 0 if number == "2" else self.column
            self.lines[self.row] = self.lines[self.row][:keep]
        elif number == "25":
            self.cursor_is_shown = letter == "h"
        else:
            assert letter == "m", (number, letter)

    def _write(self, plain):
        line = self.lines[self.row].ljust(self.column)
        end = self.column + len(plain)
        self.lines[self.row] = line[: self.column] + plain + line[end:]
        self.column = end


def run_on_terminal(test, *words):
    """Start `twistd -n evserve WORDS...` on a terminal; what is written to it is typed there."""
    from twisted.internet import reactor

    child = Child()
    test.addCleanup(lambda: None if child.ended.called else child.stop("KILL"))
    environment = {"TERM": "xterm", "COLUMNS": "100", "LINES": "40", "PATH": "/usr/bin:/bin"}
    reactor.spawnProcess(
        child,
        sys.executable,
        [*EVSERVE, *map(str, words)],
        environment,
        str(test.folder),
        usePTY=True,
    )
    return child
