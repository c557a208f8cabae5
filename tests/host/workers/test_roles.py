"""Which services may run in workers."""

from twisted.python.usage import Options, UsageError
from twisted.trial.unittest import SynchronousTestCase

from evserve.host.config import ServiceConfig
from evserve.host.workers.roles import check_shareable
from evserve.interfaces import LoadedService
from evserve.plugin import ServicePlugin


class Opts(Options):
    optFlags = [["console", None, ""]]
    one_process = ("console",)


def config(name, *flags, **kinds):
    options = Opts()
    options.parseOptions([f"--{flag}" for flag in flags])
    plugin = ServicePlugin(name, "x", "", **kinds)
    return ServiceConfig(name, plugin, LoadedService(Opts, None), options)


class CheckShareableTests(SynchronousTestCase):
    def refusal(self, *configs):
        return str(self.assertRaises(UsageError, check_shareable, list(configs)))

    def test_stateless_services_may(self):
        check_shareable([config("echo", stateless=True), config("loud", stateless=True)])

    def test_one_with_state_may_not_even_among_others(self):
        self.assertEqual(
            self.refusal(config("echo", stateless=True), config("queue")),
            "--workers: 'queue' keeps its state in one process, so it cannot run in several",
        )

    def test_one_that_does_not_listen_may_not(self):
        self.assertEqual(
            self.refusal(config("fetch", listens=False)),
            "--workers: 'fetch' does not listen through the host, so there is nothing to share",
        )

    def test_an_option_that_needs_one_process_is_named(self):
        self.assertEqual(
            self.refusal(config("echo", "console", stateless=True)),
            "--workers: 'echo' needs one process for --console",
        )
