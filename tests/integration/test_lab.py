"""`twistd -n evserve lab` with real servers, good and bad, none of which may outlive it."""

import contextlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from attrs import evolve
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from evserve.lab import claims, measurement
from evserve.lab.claims import ExperimentRunner
from evserve.lab.measurement import LoadProfile, ModelRunner
from evserve.lab.models import Model
from evserve.lab.process import ModelProcess, NotStartedError, ProcessRegistry
from evserve.lab.results import Outcome, Verdict, from_json
from evserve.load.report import DISTURBED
from tests.integration.processes import spawn


SERVER = '''\
"""Mine, with <b>markup</b>."""
import socket, sys, threading

listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print(f"mine: listening on 127.0.0.1:{listener.getsockname()[1]}")

def serve(connection):
    with connection:
        while data := connection.recv(65536):
            connection.sendall(data.upper())

while True:
    threading.Thread(target=serve, args=listener.accept()[:1], daemon=True).start()
'''
WRONG = SERVER.replace("data.upper()", "data.lower()")
MUTE = SERVER.replace("connection.sendall(data.upper())", "pass")
CRASHING = SERVER.replace(
    "connection.sendall(data.upper())",
    "import os; sys.stderr.write('mine: it was too much\\n'); os._exit(5)",
)
STUBBORN = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SERVER
TINY_BACKLOG = SERVER.replace("[1])))", "[1])), backlog=1)").replace(
    "while True:", "import time\ntime.sleep(1000)\nwhile True:", 1
)
BUSY_LOOP = (sys.executable, "-c", "while True: pass")
LACKING = (
    "import sys\nsys.stderr.write('mine: needs nosuch: pip install nosuch\\n')\nsys.exit(3)\n"
)
# In one write, so that the output of both processes is not mixed.
FORKING = SERVER.replace(
    "while True:",
    "import os\nif pid := os.fork():\n    os.write(1, b'child %d\\n' % pid)\nwhile True:",
    1,
)


def is_alive(pid):
    """Say whether a process runs; a zombie does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def children_of(pid):
    """Return the child processes of a process."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid:
                found.append(int(path.parent.name))
    return found


@contextlib.contextmanager
def busy_core(loops=3):
    """Keep this process and its children on one core, beside some programs that use it up."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    programs = [subprocess.Popen(BUSY_LOOP) for _ in range(loops)]
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        for program in programs:
            program.kill()
            program.wait()


class LabTestCase(TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def program(self, text=SERVER, name="mine.py"):
        path = self.folder / name
        path.write_text(text)
        return path

    def model(self, text=SERVER):
        return Model("mine", "yours", self.program(text), "")

    async def gone(self, pid):
        """Wait until a process has ended."""
        from twisted.internet import reactor

        while is_alive(pid):
            await deferLater(reactor, 0.02)


PATIENT = LoadProfile((), 0.5, warm_up=0.05, ready_within=100, stall=100)


class MeasurementTests(LabTestCase):
    def setUp(self):
        super().setUp()
        self.patch(measurement, "DISTURBED", math.inf)  # whatever else this machine does

    async def measure(self, text, connections=3, profile=PATIENT):
        from twisted.internet import reactor

        runner = ModelRunner(reactor)
        found = await runner.measure(self.model(text), connections, profile)
        self.assertEqual(len(runner.processes), 0)
        return found

    async def test_a_server_that_answers_in_capitals(self):
        found = await self.measure(SERVER, 30)
        self.assertEqual((found.outcome, found.active), (Outcome.MEASURED, 10), found)
        self.assertGreater(found.figures.messages, 0)
        self.assertGreater(found.figures.cpu_seconds_per_message, 0)
        self.assertGreater(found.figures.memory_bytes, 1_000_000)

    async def broke(self, text, pattern, **how):
        found = await self.measure(text, **how)
        self.assertEqual(found.outcome, Outcome.BROKE)
        self.assertRegex(found.why, pattern)

    async def test_one_that_answers_something_else(self):
        await self.broke(WRONG, "^wrong answers on 3 connections: b'abc.* instead of b'ABC")

    async def test_one_that_never_answers(self):
        pattern = "^3 of 3 connections were never answered"
        await self.broke(MUTE, pattern, profile=evolve(PATIENT, stall=1))

    async def test_one_whose_listen_queue_is_too_short(self):
        profile = evolve(PATIENT, ready_within=1)
        pattern = "20 connections open in 1 s, the lab's limit; meanwhile a listen queue was full"
        await self.broke(TINY_BACKLOG, pattern, profile=profile, connections=20)

    async def test_beside_programs_that_use_the_cpu_it_is_not_measured(self):
        self.patch(measurement, "DISTURBED", DISTURBED)
        with busy_core():
            found = await self.measure(SERVER)
        self.assertEqual((found.outcome, found.figures), (Outcome.DISTURBED, None))

    async def test_one_that_crashes_gives_the_reason(self):
        self.patch(measurement, "_CRASH_DELAY", 100)
        await self.broke(CRASHING, "^it was too much$")

    async def test_one_that_does_not_start(self):
        await self.broke("import nosuchmodule", "^ModuleNotFoundError: No module named 'nosuch")
        await self.broke("raise SystemExit(7)", "^it ended with status 7$")
        await self.broke("import os; os.kill(os.getpid(), 9)", "^it was ended by SIGKILL$")

    async def test_one_that_lacks_a_package(self):
        found = await self.measure(LACKING)
        wanted = (Outcome.UNAVAILABLE, "needs nosuch: pip install nosuch")
        self.assertEqual((found.outcome, found.why), wanted)

    async def test_one_that_ignores_sigterm_is_killed(self):
        found = await self.measure(STUBBORN)
        self.assertEqual(found.outcome, Outcome.MEASURED)


class ProcessTests(LabTestCase):
    def process(self, text):
        from twisted.internet import reactor

        self.processes = ProcessRegistry()
        process = ModelProcess(reactor, self.model(text), self.processes)
        self.addCleanup(process.stop)
        return process

    async def test_all_processes_of_a_program_end_with_it(self):
        process = self.process(FORKING)
        await process.start()
        while not (found := re.search(r"child (\d+)\n", process.out)):
            await deferLater(process._reactor, 0.01)
        other = int(found[1])
        self.assertTrue(is_alive(other))
        await process.stop()
        await self.gone(other)
        self.assertFalse(is_alive(process.pid))

    async def test_killing_all_ends_what_runs(self):
        process = self.process(STUBBORN)
        await process.start()
        self.processes.kill()
        await process.when_ended()
        self.assertEqual((process.signal, len(self.processes)), (9, 0))
        await process.when_ended()

    async def test_it_is_in_a_session_of_its_own(self):
        process = self.process(SERVER)
        await process.start()
        self.assertEqual(os.getsid(process.pid), process.pid)

    async def test_a_file_that_is_not_a_program(self):
        path = self.folder / "noise"
        path.write_bytes(b"\x00\x01")
        path.chmod(0o755)
        process = self.process("")
        process._model = Model("noise", "yours", path, "")
        with self.assertRaises(NotStartedError) as caught:
            await process.start()
        self.assertIn("Exec format error", str(caught.exception))


class ExperimentTests(LabTestCase):
    """The experiments give their answer whatever the figures are."""

    def setUp(self):
        from twisted.internet import reactor

        super().setUp()
        self.patch(claims, "DISTURBED", math.inf)  # whatever else this machine does
        self.runner = ModelRunner(reactor)
        self.experiments = ExperimentRunner.of(self.runner)

    async def test_a_second_client_beside_a_silent_one(self):
        self.assertIsNone(await self.experiments.second_client("blocking"))
        self.patch(claims, "PATIENCE", 100)  # for an answer that comes
        self.assertIsNotNone(await self.experiments.second_client("epoll_level"))
        self.assertEqual(len(self.runner.processes), 0)

    async def test_idle_cpu(self):
        busy = await self.experiments.idle_cpu("nonblocking_polling")
        idle = await self.experiments.idle_cpu("epoll_level")
        self.assertGreater(busy, idle)
        self.assertEqual(len(self.runner.processes), 0)

    async def test_beside_programs_that_use_the_cpu_a_claim_is_not_measured(self):
        self.patch(claims, "DISTURBED", DISTURBED)
        (polling,) = [each for each in claims.EXPERIMENTS if each.name == "polling"]
        with busy_core():
            claim = await self.experiments.check(polling)
        self.assertEqual(claim.verdict, Verdict.UNKNOWN, claim)
        self.assertRegex(claim.evidence, r"^other programs used the CPU for \d+% of the time$")


class CommandTests(LabTestCase):
    def start(self, *words):
        return spawn(self, "lab", *words, folder=self.folder)

    async def run_lab(self, *words):
        child = self.start(*words)
        status = await child.ended
        return child.out.decode(), child.err.decode(), status

    def result(self, name="lab.json"):
        return from_json((self.folder / name).read_text())

    async def test_models_side_by_side(self):
        self.program()
        words = ["--models", "blocking,epoll_level,./mine.py", "--connections", "1,20"]
        out, err, status = await self.run_lab(*words, "--seconds", 0.2, "--no-claims")
        self.assertEqual(status, 0, err)
        found = self.result()
        outcomes = {
            model.name: [str(cell.outcome) for cell in model.cells] for model in found.models
        }
        served = {"measured", "not measured"}  # the latter if this machine is busy
        self.assertIn(outcomes["blocking"][0], served)
        self.assertEqual(outcomes["blocking"][1], "broke")
        self.assertLessEqual({*outcomes["epoll_level"], *outcomes["mine"]}, served)
        self.assertIsNone(found.partial)
        measured = found.count(Outcome.MEASURED)
        self.assertIn(f"lab.html, lab.json: {measured} of 6 measurements in ", out)
        self.assertIn("s; broke: blocking", out)
        self.assertRegex(out, r"(?m)^blocking +20  broke: 19 of 20 connections were never ans")
        page = (self.folder / "lab.html").read_text()
        self.assertIn("&lt;b&gt;markup", page)
        self.assertIn("--models blocking,epoll_level,./mine.py", page)

    async def test_json_on_standard_output_is_the_only_output(self):
        words = ["--models", "epoll_level", "--connections", 5, "--seconds", 0.1, "--no-claims"]
        out, err, status = await self.run_lab(*words, "--json", "-")
        self.assertEqual(status, 0, err)
        self.assertEqual(json.loads(out)["models"][0]["name"], "epoll_level")
        self.assertIn("epoll_level", err)
        self.assertEqual([each.name for each in self.folder.iterdir()], ["lab.html"])

    async def test_a_signal_ends_it_with_the_figures_so_far(self):
        self.program("import time\ntime.sleep(1000)")  # so there is something to stop
        for name in ("INT", "TERM"):
            words = ["--models", "epoll_level,./mine.py", "--connections", "1,2"]
            child = self.start(*words, "--seconds", 0.1, "--report", f"{name}.html", "--no-claims")
            await child.shows(b"epoll_level")
            pid = child.transport.pid
            self.assertEqual(await child.stop(name), 0, child.err)
            found = self.result(f"{name}.json")
            self.assertEqual(found.partial, "it was stopped")
            served = (Outcome.MEASURED, Outcome.DISTURBED)
            self.assertIn(found.models[0].cells[0].outcome, served)
            self.assertIn("This report is partial", (self.folder / f"{name}.html").read_text())
            self.assertEqual(children_of(pid), [])

    async def test_a_second_signal_ends_it_at_once(self):
        self.program(STUBBORN)
        child = self.start("--models", "./mine.py", "--connections", 1, "--seconds", 60)
        await child.until(lambda: b"serves lab" in child.err)
        while not (programs := children_of(child.transport.pid)):
            await self.pause()
        child.transport.signalProcess("INT")
        await child.until(lambda: b"SIGINT: stopping" in child.err)
        await child.stop("INT")
        for pid in programs:
            await self.gone(pid)

    async def test_no_program_outlives_a_lab_that_is_killed(self):
        self.program(STUBBORN)
        child = self.start("--models", "./mine.py", "--connections", 1, "--seconds", 60)
        await child.until(lambda: b"serves lab" in child.err)
        while not (programs := children_of(child.transport.pid)):
            await self.pause()
        while b"launcher.py" in Path(f"/proc/{programs[0]}/cmdline").read_bytes():
            await self.pause()
        await child.stop("KILL")
        for pid in programs:
            await self.gone(pid)

    def pause(self):
        from twisted.internet import reactor

        return deferLater(reactor, 0.02)

    async def test_a_closed_standard_output_ends_it_with_the_figures_so_far(self):
        words = ["--models", "epoll_level", "--seconds", 0.1, "--no-claims"]
        child = self.start(*words, "--connections", "1,2,3")
        child.transport.closeStdout()  # as `| head` does
        self.assertEqual(await child.ended, 1)
        lines = child.err.decode().splitlines()
        self.assertEqual(lines[-1], "evserve: lab: standard output: Broken pipe")
        self.assertEqual(len([line for line in lines if " serves lab " not in line]), 1, lines)
        self.assertEqual(self.result().partial, "standard output: Broken pipe")
        self.assertIn("This report is partial", (self.folder / "lab.html").read_text())

    async def test_a_list_with_closed_standard_output_is_one_line(self):
        child = self.start("--list", "--models", "epoll_level")
        child.transport.closeStdout()
        self.assertEqual(await child.ended, 1)
        self.assertTrue(child.err.endswith(b"\nevserve: lab: standard output: Broken pipe\n"))
        self.assertNotIn(b"Traceback", child.err)

    async def test_nothing_measured_is_a_failure_with_a_report(self):
        self.program(LACKING)
        words = ["--models", "./mine.py", "--connections", "1,10", "--no-claims"]
        out, err, status = await self.run_lab(*words)
        self.assertEqual(status, 1)
        self.assertIn("; broke: none; unavailable: mine\n", out)
        self.assertIn("evserve: lab: no model could be measured\n", err)
        (model,) = self.result().models
        self.assertEqual({str(cell.outcome) for cell in model.cells}, {"unavailable"})

    async def test_the_list_shows_which_models_cannot_run(self):
        self.program(LACKING)
        out, _, status = await self.run_lab("--list", "--models", "epoll_level,./mine.py")
        self.assertEqual(status, 0)
        self.assertRegex(out, r"(?m)^epoll_level +epoll, level-triggered: [^\[]*$")
        self.assertRegex(
            out, r"(?m)^mine .*\[cannot run here: needs nosuch: pip install nosuch\]$"
        )

    async def test_a_page_is_drawn_again(self):
        words = ["--models", "epoll_level", "--connections", 1, "--seconds", 0.1, "--no-claims"]
        await self.run_lab(*words)
        out, _, status = await self.run_lab("--from", "lab.json", "--report", "again.html")
        self.assertEqual((out, status), ("again.html\n", 0))
        first, again = ((self.folder / name).read_text() for name in ("lab.html", "again.html"))
        self.assertEqual(first, again)

    async def test_a_mistake_is_one_line(self):
        (self.folder / "x.json").write_text("{}")
        for words, line in (
            (["--models", "epol"], "evserve: lab: --models: no model named 'epol'; did you mean"),
            (["--connections", "x"], "evserve: lab: --connections 'x': not numbers of conn"),
            (["--report", "/no/such/x"], "evserve: lab: No such file or directory: /no/such/x"),
            (["--from", "none.json"], "evserve: lab: No such file or directory: none.json"),
            (["--from", "x.json"], "evserve: lab: 'x.json': not a result of the lab"),
        ):
            out, err, status = await self.run_lab(*words)
            self.assertEqual((out, err.count("\n"), status), ("", 1, 1), err)
            self.assertIn(line, err)
