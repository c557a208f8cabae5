"""Code that another user may change is not imported.

What is in the current folder, or in a folder of plugin files, runs with the user's rights. A
folder is checked when it is added, and a file when it is imported.
"""

import errno
import importlib
import os
import pwd
import stat
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from attrs import frozen

from evserve.plugin import UntrustedError


_MAX_LINKS = 40  # on the way to a file, as in the kernel


def add_import_folder(folder: Path) -> None:
    """Have modules imported from a folder before any other, as `python -m` has.

    Raises UntrustedError if another user may write to it or replace it, and OSError.
    """
    check_trusted(folder)
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    check_imports(folder)


def check_imports(root: Path) -> None:
    """Refuse from now on to import what another user may change in a folder."""
    checker = TrustChecker(root)
    if checker not in sys.meta_path:
        sys.meta_path.insert(0, checker)
    importlib.invalidate_caches()


@frozen
class TrustChecker:
    """Refuses to import what another user may change, in the folder `root` or by a link from it.

    One for each folder stands at the front of `sys.meta_path`. It finds no modules itself.
    """

    root: Path

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> None:
        """Raise UntrustedError for a module that must not be imported."""
        spec: ModuleSpec | None = PathFinder.find_spec(name, path, target)
        if spec is None or not spec.has_location or spec.origin is None:
            return
        if not Path(spec.origin).is_relative_to(self.root):
            return
        check_trusted(spec.origin)
        if spec.cached is not None:  # the compiled copy, which is what runs if it is there
            for each in (Path(spec.cached), Path(spec.cached).parent):
                if each.exists():
                    check_trusted(each)


def check_trusted(path: str | Path) -> None:
    """Raise UntrustedError if a user other than root and this one may change what `path` is.

    Every folder on the way is looked at, and every link, because who may write to a folder may
    replace what is in it. The members of a file's group are trusted.
    """
    here = Path("/")
    rest = list(reversed(Path(path).absolute().parts[1:]))
    links = 0
    while True:
        status = here.lstat()
        if status.st_uid not in (0, os.geteuid()):
            raise UntrustedError(
                f"{here} belongs to {_user_name(status.st_uid)} "
                f"(fix: chown {_user_name(os.geteuid())} {here})"
            )
        if stat.S_ISLNK(status.st_mode):
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
            target = here.readlink()
            rest += reversed(target.parts[target.is_absolute() :])
            here = Path("/") if target.is_absolute() else here.parent
        else:
            # In a sticky folder such as /tmp any user may write, but not replace what others own.
            is_sticky = bool(rest) and status.st_mode & stat.S_ISVTX
            if status.st_mode & stat.S_IWOTH and not is_sticky:
                raise UntrustedError(f"{here} is world-writable (fix: chmod o-w {here})")
        if not rest:
            return
        name = rest.pop()
        here = here.parent if name == ".." else here / name


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
