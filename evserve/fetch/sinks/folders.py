"""Folders that survive a power cut: each has an entry in the one above it."""

import os
from errno import ENOTDIR
from pathlib import Path


def make_folder(folder: Path) -> list[str]:
    """Make a folder and what leads there; return the folders to sync; raises OSError."""
    holders = [folder.absolute().parent]  # for a folder that is there, too: who knows since when
    while not holders[-1].exists() and holders[-1] != holders[-1].parent:
        holders.append(holders[-1].parent)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR), str(folder)) from None
    return [str(holder) for holder in holders]
