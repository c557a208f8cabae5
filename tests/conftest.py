"""For pytest only: `trial` has `--reactor` and a folder of its own."""

import pytest
from twisted.application.reactors import installReactor


def pytest_addoption(parser):
    parser.addoption("--reactor", metavar="NAME", help="install this Twisted reactor")


def pytest_configure(config):
    """Install the reactor before a test module can import one."""
    name = config.getoption("--reactor")
    if name is not None:
        installReactor(name)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    """Run each test in a folder of its own: `mktemp` leaves files in the current one."""
    monkeypatch.chdir(tmp_path)
