"""Other projects' own tests against the service `asgi`: `python own_suites.py starlette SDIST`.

The tests in a source distribution run twice, with uvicorn itself and with evserve. Exit status 0
if each one that passes with uvicorn passes with evserve, and they are not few.
"""

import os
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree as ET


# By project, the plugin, how many tests pass at least, and the files.
SUITES = {
    "starlette": ("served_client", 480, ["tests"]),  # 493 of 1.10
    "uvicorn": (
        "uvicorn_parts",
        140,  # 154 of 0.54
        ["tests/protocols/test_http.py", "tests/protocols/test_websocket.py"],
    ),
}


def unpack(sdist, folder):
    """Put the tests and their settings into the folder; the package is the installed one."""
    with tarfile.open(sdist) as archive:
        for member in archive.getmembers():
            member.name = member.name.partition("/")[2]
            if member.name == "pyproject.toml" or member.name.startswith("tests/"):
                archive.extract(member, folder, filter="data")


def passing(folder, server, plugin, files):
    """Run the tests with one of the servers; return the names of those that pass."""
    result = Path(folder, f"{server}.xml")
    print(f"With {server}:", flush=True)
    subprocess.run(
        (sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "-p", plugin, "--server", server,
            "--tb=short", "--show-capture=no", f"--junitxml={result}", *files),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        check=False,
    )  # fmt: skip
    cases = ET.parse(result).iter("testcase")
    passed = [case for case in cases if not case.findall("*")]
    return {f"{case.get('classname')} {case.get('name')}" for case in passed}


def main(project, sdist):
    plugin, floor, files = SUITES[project]
    with TemporaryDirectory() as folder:
        unpack(sdist, folder)
        uvicorn, evserve = (
            passing(folder, server, plugin, files) for server in ("uvicorn", "evserve")
        )
    lost = sorted(uvicorn - evserve)
    print(f"{project}: {len(evserve)} pass with evserve, {len(uvicorn)} with uvicorn")
    print("".join(f"  not with evserve: {name}\n" for name in lost), end="")
    return int(bool(lost) or len(evserve) < floor)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
