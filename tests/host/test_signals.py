"""Which signals are handled, and the terminal that a process may lose."""

import asyncio
import atexit
import os
import pty
import signal
from functools import partial
from pathlib import Path

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from evserve.host import signals
from evserve.host.signals import SignalHandlers, Terminal, hangs_up, hold_signals


class Case(SynchronousTestCase):
    def setUp(self):
        self.handlers = {}  # what is not in here has the system's default
        self.patch(signal, "signal", self.handlers.__setitem__)
        self.patch(signal, "getsignal", lambda each: self.handlers.get(each, signal.SIG_DFL))
        self.patch(signal, "raise_signal", self.send)
        self.hooks = []
        self.patch(atexit, "register", lambda *hook: self.hooks.append(partial(*hook)))

    def send(self, number):
        self.handlers[number](number, None)


class HoldTests(Case):
    def test_tools_do_not_end_the_process(self):
        hold_signals()
        for name in ("HUP", "USR1", "USR2", "ALRM", "VTALRM", "PROF", "IO", "PWR"):
            self.assertTrue(callable(self.handlers[getattr(signal, f"SIG{name}")]), name)

    def test_ctrl_c_and_what_is_for_a_process_that_hangs_are_left_alone(self):
        hold_signals()
        for name in ("INT", "TERM", "QUIT", "ABRT", "TSTP"):
            self.assertNotIn(getattr(signal, f"SIG{name}"), self.handlers, name)

    def test_nohup_and_other_handlers_stay(self):
        self.handlers = {signal.SIGHUP: signal.SIG_IGN, signal.SIGUSR2: print}
        self.patch(signal, "signal", self.handlers.__setitem__)
        hold_signals()
        self.assertEqual(self.handlers[signal.SIGHUP], signal.SIG_IGN)
        self.assertEqual(self.handlers[signal.SIGUSR2], print)
        self.assertFalse(hangs_up())


class HandlersTests(Case):
    def setUp(self):
        super().setUp()
        self.names = []
        self.reactor = MemoryReactorClock()
        self.reactor.callFromThread = lambda function, *args: function(*args)
        self.given = SignalHandlers(self.reactor, self.names.append)

    def test_each_reaches_the_reactor_by_its_name(self):
        self.given.install()
        for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"):
            self.send(getattr(signal, name))
            self.assertEqual(self.names.pop(), name)

    def test_the_reactor_installs_no_other_handler_of_sigterm(self):
        self.given.install()
        self.reactor.sigTerm(signal.SIGTERM, None)
        self.assertEqual(self.names, ["SIGTERM"])

    def test_those_that_came_before_are_not_lost(self):
        hold_signals()
        self.send(signal.SIGHUP)
        self.send(signal.SIGUSR1)
        self.given.install()
        self.assertEqual(self.names, ["SIGHUP", "SIGUSR1"])
        self.assertEqual(signals._early, [])

    def test_a_service_may_have_taken_one_for_itself(self):
        taken = []
        hold_signals()
        self.send(signal.SIGUSR1)
        self.handlers[signal.SIGUSR1] = lambda *_: taken.append(1)
        self.given.install()
        self.assertEqual((taken, self.names), ([1], []))

    def test_a_stop_interrupts_a_start(self):
        self.given.install()
        self.given.interrupts = True
        for each in (signal.SIGINT, signal.SIGTERM):
            self.assertRaises(KeyboardInterrupt, self.send, each)
        self.send(signal.SIGUSR1)
        self.assertEqual(self.names, ["SIGINT", "SIGTERM", "SIGUSR1"])

    def test_one_that_a_library_handles_in_the_loop_reaches_both(self):
        loop = self.reactor._asyncioEventloop = asyncio.new_event_loop()
        self.addCleanup(loop.close)
        self.given.install()
        taken = []
        loop.add_signal_handler(signal.SIGTERM, taken.append, "taken")
        for _ in range(2):
            self.send(signal.SIGTERM)
            loop.call_soon(loop.stop)
            loop.run_forever()
            self.assertEqual((taken.pop(), self.names.pop()), ("taken", "SIGTERM"))
        self.assertTrue(loop.remove_signal_handler(signal.SIGTERM))
        self.assertFalse(loop.remove_signal_handler(signal.SIGTERM))
        self.send(signal.SIGTERM)
        self.assertEqual(self.names, ["SIGTERM"])

    def test_others_are_the_loops_own(self):
        loop = self.reactor._asyncioEventloop = asyncio.new_event_loop()
        self.addCleanup(loop.close)
        self.given.install()
        loop.add_signal_handler(signal.SIGUSR2, print)
        self.assertIn(signal.SIGUSR2, self.handlers)
        self.assertTrue(loop.remove_signal_handler(signal.SIGUSR2))

    def test_at_exit_none_can_change_the_status(self):
        hold_signals()
        self.given.install()
        for hook in self.hooks:
            hook()
        self.assertEqual(set(self.handlers.values()), {signal.SIG_IGN})


class TerminalTests(SynchronousTestCase):
    def setUp(self):
        self.patch(signals, "_CONTROLLING", "/nowhere")

    def standard(self, descriptor):
        """Put a descriptor in the place of standard input, as far as the terminal sees it."""
        self.patch(signals, "_STANDARD", (descriptor,))

    def open_terminal(self):
        master, slave = pty.openpty()
        self.addCleanup(os.close, slave)
        master = os.fdopen(master)
        self.addCleanup(master.close)
        return master, slave

    def test_it_is_noticed_when_it_has_gone(self):
        master, slave = self.open_terminal()
        self.standard(slave)
        terminal = Terminal()
        self.assertFalse(terminal.has_gone())
        master.close()
        for _ in range(2):
            self.assertTrue(terminal.has_gone())
        os.write(slave, b"this goes nowhere, and does not fail")

    def test_a_process_that_had_none_has_lost_none(self):
        reading, writing = os.pipe()
        os.close(writing)
        self.addCleanup(os.close, reading)
        self.standard(reading)
        self.assertFalse(Terminal().has_gone())

    def test_the_one_that_controls_the_process_is_the_one_that_counts(self):
        _, slave = self.open_terminal()
        self.standard(slave)
        path = Path(self.mktemp())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        self.patch(signals, "_CONTROLLING", str(path))
        terminal = Terminal()
        self.assertFalse(terminal.has_gone())
        path.unlink()
        self.assertTrue(terminal.has_gone())
