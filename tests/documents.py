"""The code blocks of a Markdown page, so that tests can run them."""

import re
from pathlib import Path

from tests.ports import free_port


ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\S+\.\w+)\n")
PORT = re.compile(
    r"(?:(?<=--port )|(?<=tcp:)|(?<=127\.0\.0\.1[: ])|(?<=port = ))(?:\d{4}|11300)\b"
)


class Page:
    """A page whose ports are replaced by free ones; `blocks` are (language, text) pairs."""

    def __init__(self, name):
        self._ports = {}
        text = PORT.sub(self._free_port, (ROOT / name).read_text(encoding="utf-8"))
        self.blocks = BLOCK.findall(text)

    def _free_port(self, match):
        return self._ports.setdefault(match[0], str(free_port()))

    def write_files(self, folder):
        """Write each block that begins with a comment naming a file; `/etc/x` is `etc/x` there."""
        for _, text in self.blocks:
            named = FILE.match(text)
            if named:
                path = Path(folder, named[1].lstrip("/"))
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")

    def commands(self):
        """Return a (command, shown output) pair for each `$` line of the console blocks."""
        found = []
        for language, text in self.blocks:
            if language == "console":
                for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                    command, _, output = part.partition("\n")
                    found.append((command, output))
        return found
