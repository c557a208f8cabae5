"""What the servers answer."""

from pathlib import Path
from typing import Final


HELLO: Final = b"hello, world"
SMALL: Final = b"x" * 1024
LARGE: Final = b"x" * 65536
MEMORY: Final = {"/hello": HELLO, "/1k": SMALL}
"""Pages that need no file, by path."""


def write_files(folder: Path) -> None:
    """Write what stands below `/files`."""
    folder.mkdir()
    folder.chmod(0o755)
    for name, content in (("1k.txt", SMALL), ("64k.txt", LARGE)):
        (folder / name).write_bytes(content)
