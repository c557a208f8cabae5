"""Starlette's own tests against the service `asgi`: `python starlette_suite.py SDIST`.

The tests in Starlette's source distribution run twice, served by uvicorn itself and by evserve.
Exit status 0 if each one that passes with uvicorn passes with evserve, and they are not few.
"""

import os
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree as ET


FLOOR = 480  # tests; of Starlette 1.0 to 1.10, 490 and more pass


def unpack(sdist, folder):
    """Put the tests and their settings into the folder; the package is the installed one."""
    with tarfile.open(sdist) as archive:
        for member in archive.getmembers():
            member.name = member.name.partition("/")[2]
            if member.name == "pyproject.toml" or member.name.startswith("tests/"):
                archive.extract(member, folder, filter="data")


def passing(folder, server):
    """Run the tests with one of the servers; return the names of those that pass."""
    result = Path(folder, f"{server}.xml")
    print(f"Starlette's tests, served by {server}:", flush=True)
    subprocess.run(
        (sys.executable, "-m", "pytest", "-q", "-p", "served_client", "--server", server,
            "--tb=short", "--show-capture=no", f"--junitxml={result}"),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        check=False,
    )  # fmt: skip
    cases = ET.parse(result).iter("testcase")
    return {
        f"{case.get('classname')} {case.get('name')}" for case in cases if not case.findall("*")
    }


def main(sdist):
    with TemporaryDirectory() as folder:
        unpack(sdist, folder)
        uvicorn, evserve = (passing(folder, server) for server in ("uvicorn", "evserve"))
    lost = sorted(uvicorn - evserve)
    print(f"{len(evserve)} pass with evserve, {len(uvicorn)} with uvicorn", *lost, sep="\n  ")
    return int(bool(lost) or len(evserve) < FLOOR)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
