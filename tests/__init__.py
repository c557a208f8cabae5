"""Settings of all tests, for `trial` and `pytest`."""

import os

from hypothesis import HealthCheck, settings
from twisted.trial import util


# Seconds that a test may take. The limit ends tests that hang, and must not end slow ones: a busy
# machine takes ten times as long as an idle one.
util.DEFAULT_TIMEOUT_DURATION = 300.0
# For the same reason, Hypothesis must not reject slow tests.
settings.register_profile("evserve", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("evserve")

# Variables that would change the programs that tests start: proxies, a service manager, colours,
# modes of Python. PYTHONPATH stays, because it may be how they find this project.
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
