"""What holds for all tests."""

import gc
import os
import shutil
import signal
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from pdcode.util import progress, threads

threads.limit(os.environ)  # as ranks have; before numpy is imported

from pdcode.training.roster import TRANSITIONS, Roster  # noqa: E402

os.environ |= progress.OFF  # tests/util/test_progress.py tests it
gc.disable()  # until all modules are imported
pytest.register_assert_rewrite("outcomes", "descents")

# As a shell's foreground has them; `nohup` and `&` ignore some, and processes inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def become(self: Roster, worker: int, state: int) -> None:
    """Change the state of a worker as `TRANSITIONS` allows: in all tests whose rank 0 is in their process."""
    before = self.states[worker]
    assert state in TRANSITIONS[before], f"worker {worker}: from state {before} to {state}"
    self.states[worker] = state


Roster.become = become

# --hypothesis-profile chooses the number of examples. How quickly a machine draws them, with other processes
# beside us, is not what tests are about.
for profile, examples in (("short", 25), ("long", 500)):
    settings.register_profile(
        profile, max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
settings.load_profile("short")


# Pages are opened in the browser of the Debian package chromium, which .ci/run installs, too.
BROWSER = "chromium"
# Jobs are submitted to a SLURM of the tests' own, and run on emulated hosts: as root, with the Debian
# packages that .ci/run installs.
TOOLS = "slurmctld", "slurmd", "srun", "munged", "ip", "tc", "nft"
collect_ignore = [] if os.geteuid() == 0 and all(map(shutil.which, TOOLS)) else ["cluster"]
collect_ignore += [] if shutil.which(BROWSER) else ["browser"]


SYSTEM = (
    "tests/benchmarks/", "tests/cluster/", "tests/browser/", "tests/experiments/", "tests/test_packaging.py",
)  # fmt: skip
LONGEST = (  # files that take longest, which begin first
    "tests/mpi/test_deaths.py", "tests/mpi/test_allreduce.py", "tests/mpi/test_documents.py",
    "tests/mpi/test_resume.py", "tests/mpi/test_replay.py", "tests/mpi/test_injected.py",
    "tests/choice/test_choice.py", "tests/choice/test_preset_changes.py", "tests/api/test_api_diagnose.py",
    "tests/cli/test_plan_command.py", "tests/api/test_sklearn.py", "tests/replay/test_replayer.py",
    "tests/fuzz/test_fuzz.py", "tests/studies/test_compare.py", "tests/schemes/test_commands.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Mark slow tests, which start other processes, tests of the system, and long ones; sort by time.

    Of a grid, `every(k)`, each k-th case is a quick test; half of the others are for `make test-long` alone.
    """
    cases = Counter[str]()  # of a test so far
    for item in items:
        every = item.get_closest_marker("every")
        name = item.nodeid.partition("[")[0]
        nth, others = divmod(cases[name], every.args[0]) if every else (0, 0)
        if item.nodeid.startswith(SYSTEM) or others:
            item.add_marker("system")
        if others and (nth + others) % 2 == 0:
            item.add_marker("long")
        if over_mpi(item.nodeid) or hasattr(item.module, "subprocess") or "system" in item.keywords:
            item.add_marker("slow")
        cases[name] += 1
    items.sort(key=_place)


def _place(item: pytest.Function) -> tuple[int, bool]:
    file = item.nodeid.partition("::")[0]
    return 2 - over_mpi(file) - ("slow" in item.keywords or file in LONGEST), file not in LONGEST


def pytest_collection_finish() -> None:
    """Leave modules and tests out of each collection of garbage from now on, a tenth of most tests' time.

    Collections are rarer, too: in a long process those of all later objects would take another twentieth.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 10)
    gc.enable()


@pytest.fixture
def read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have commands read files without a forked process before, which is for damaged ones and takes long."""
    monkeypatch.setattr("pdcode.cli.guard._status", lambda path, stamp: 0)


@pytest.fixture
def on_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have commands run on ranks of the pool instead of their own, for jobs in which no rank fails."""
    from launches import shared_pool

    monkeypatch.setenv("PDCODE_LAUNCHER", str(shared_pool().launcher))


def over_mpi(nodeid: str) -> bool:
    return nodeid.startswith(("tests/mpi/", "tests/cluster/"))


LANES = 3  # processes that start mpirun at a time; more would crowd the machine


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Choose two processes more than cores: tests over MPI wait for others half of the time."""
    return min(8, 2 + len(os.sched_getaffinity(0)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Share files out among the processes of pytest-xdist; those that start mpirun first, to `LANES`."""
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False  # not by the number of tests

    class Scheduling(LoadFileScheduling):
        def _assign_work_unit(self, node: Any) -> None:
            busy = [
                any(over_mpi(file) and not all(done.values()) for file, done in files.items())
                for other, files in self.assigned_work.items()
                if other is not node
            ]
            serial = [file for file in self.workqueue if not over_mpi(file)]
            if sum(busy) >= LANES and serial:
                self.workqueue.move_to_end(serial[0], last=False)
            super()._assign_work_unit(node)

    return Scheduling(config, log)
