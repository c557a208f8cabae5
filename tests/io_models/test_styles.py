"""Styles of programming on top of readiness: coroutines, greenlets, callbacks."""

import difflib
import re

from twisted.trial.unittest import SynchronousTestCase

from tests.io_models.behaviour import (
    FILES,
    DescriptorLimit,
    ModelBehaviour,
    OptionalPackage,
    few_files,
)
from tests.io_models.programs import FOLDER, connect, peek, receive


class GeneratorSchedulerTests(DescriptorLimit, ModelBehaviour, SynchronousTestCase):
    name = "generator_scheduler"


class GreenletLoopTests(OptionalPackage, DescriptorLimit, ModelBehaviour, SynchronousTestCase):
    name = "greenlet_loop"
    package = "greenlet"


class GeventPatchedTests(OptionalPackage, DescriptorLimit, ModelBehaviour, SynchronousTestCase):
    name = "gevent_patched"
    package = "gevent"


class GeventUnpatchedTests(OptionalPackage, ModelBehaviour, SynchronousTestCase):
    name = "gevent_unpatched"
    package = "gevent"
    at_once = 1

    def test_it_differs_from_the_patched_program_only_by_the_patch(self):
        programs = []
        for name in ("gevent_patched", self.name):
            text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
            code = text.split('"""', 2)[2].replace(name, "NAME")
            programs.append([line.strip() for line in code.splitlines() if line.strip()])
        changes = [line for line in difflib.ndiff(*programs) if line[0] in "+-"]
        self.assertEqual(changes, ["- import gevent.monkey", "- gevent.monkey.patch_all()"])

    def test_the_patch_comes_before_every_import_of_what_it_replaces(self):
        text = (FOLDER / "gevent_patched.py").read_text(encoding="utf-8")
        before = text.split('"""', 2)[2].partition("gevent.monkey.patch_all()")[0]
        imported = re.findall(
            r"^ *(?:import|from) (\S+)", before.partition("except")[0], re.MULTILINE
        )
        self.assertEqual(imported, ["gevent", "gevent.monkey"])

    def test_the_second_client_waits_until_the_first_has_closed(self):
        program = self.start()
        first, second = connect(self, program), connect(self, program)
        second.sendall(b"second")
        for _ in range(20):
            self.converse(first, b"first")
        self.assertRaises(BlockingIOError, peek, second)
        first.close()
        self.assertEqual(receive(second, 6), b"SECOND")


class AsyncioStreamsTests(DescriptorLimit, ModelBehaviour, SynchronousTestCase):
    name = "asyncio_streams"
    out = "socket.accept() out of system resource: [Errno 24] Too many open files"


class AsyncioProtocolTests(DescriptorLimit, ModelBehaviour, SynchronousTestCase):
    name = "asyncio_protocol"
    out = "socket.accept() out of system resource: [Errno 24] Too many open files"


class TwistedEpollTests(DescriptorLimit, ModelBehaviour, SynchronousTestCase):
    name = "twisted_epoll"


class EvserveUvloopTests(OptionalPackage, ModelBehaviour, SynchronousTestCase):
    name = "evserve_uvloop"
    package = installed_by = "uvloop"
    speaker = "evserve"

    def test_without_descriptors_it_says_so_once_and_serves_the_others(self):
        program = self.start(prepare=few_files)
        first = connect(self, program)
        self.converse(first, b"hello")
        for _ in range(FILES):
            connect(self, program)
        self.assertEqual(
            program.wait_for_line(),
            f"{self.name}: file limit ({FILES}) nearly reached: "
            "no connections are accepted until some close\n",
        )
        self.converse(first, b"still there")
