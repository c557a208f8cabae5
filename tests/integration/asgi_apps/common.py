"""What the applications share; they run in a folder of their own."""

import hashlib
import sys
from pathlib import Path


PIECE = bytes(64 * 1024)
DONE = Path("done")  # background tasks end when it exists


def say(text):
    print(text, file=sys.stderr, flush=True)


class Digest:
    """Length and SHA-256 of a body that comes in pieces."""

    def __init__(self):
        self.length, self.sha256 = 0, hashlib.sha256()

    def update(self, piece):
        self.length += len(piece)
        self.sha256.update(piece)

    def result(self):
        return {"length": self.length, "sha256": self.sha256.hexdigest()}
