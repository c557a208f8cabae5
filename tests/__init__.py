"""Tests, for `trial` and `pytest` alike: what holds for all of them."""

import os

from hypothesis import HealthCheck, settings
from twisted.trial import util


# Seconds that a test may take. The limit is there for what hangs, and must spare what is slow: a
# machine with much else to do takes ten times as long as a quiet one.
util.DEFAULT_TIMEOUT_DURATION = 300.0
# Likewise Hypothesis, which would take such a machine for a slow test.
settings.register_profile("evserve", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("evserve")

# What would change the programs that tests start: proxies, a service manager, colours, a umask,
# another mode of Python (not where it looks for modules, which is how they find this project).
_FOREIGN = {
    *("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"),
    *("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"),
    *("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "TERM"),
    *("PYTHONUNBUFFERED", "PYTHONWARNINGS", "PYTHONDEVMODE", "PYTHONOPTIMIZE", "PYTHONVERBOSE"),
    *("PYTHONASYNCIODEBUG", "PYTHONINSPECT", "PYTHONUTF8", "PYTHONIOENCODING"),
}
for _name in list(os.environ):
    if _name in _FOREIGN or _name.lower().endswith("_proxy"):
        del os.environ[_name]
os.umask(0o022)
