"""Checkpoints on disk: which is taken, and what becomes of one that somebody has changed."""

import errno
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import msgspec
import pytest
from interrupted import built, interrupted

from pdcode.config import Config
from pdcode.config.load import resolve
from pdcode.session import checkpoint
from pdcode.session.checkpoint import CheckpointWriter
from pdcode.session.monitor import Monitor
from pdcode.session.worker_checkpoint import WorkerCheckpoint, WorkerFile, worker_file
from pdcode.util import checked
from pdcode.util.errors import InputError

JOB = ["problem.hidden=[8]", "code.blocks=[4, 1]", "code.weight=2", "workers.count=3", "stop.updates=20"]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    path = tmp_path_factory.mktemp("checkpoints") / "t.h5"
    config = resolve({}, [*JOB, f"trace.path={path}"])
    interrupted(config)
    return config


def test_it_is_found_and_fits(config: Config) -> None:
    found = checkpoint.find(config)
    assert found is not None
    run = built(found.resumed_config(config))
    found.restore(run.stateful, run.components.config)
    assert run.coordinator.roster.arrivals == 9
    assert run.coordinator.version == found.header.version


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("optimizer.rate=0.5", "optimizer.rate: 0.5, and 0.1 in the checkpoint"),
        ("seed=2", "seed: 2, and 1 in the checkpoint"),
        ("workers.count=4", "workers.count: 4, and 3 in the checkpoint"),
        ("memory.kind=none", "memory.kind: .none., and .worker."),
    ],
)
def test_one_of_another_configuration_is_refused_by_key(config: Config, change: str, named: str) -> None:
    with pytest.raises(InputError, match=named):
        checkpoint.find(resolve({}, [*JOB, f"trace.path={config.trace.path}", change]))


def test_a_worker_that_cannot_write_its_part_goes_on(tmp_path, monkeypatch, capsys):
    """One line, until a part is on disk again."""
    parts, full = WorkerCheckpoint(str(tmp_path), "run", 1), OSError(errno.ENOSPC, "No space left on device")
    for trouble in (full, full, None, full):
        with monkeypatch.context() as patch:
            if trouble is not None:
                patch.setattr(checked, "_write_all", Mock(side_effect=trouble))
            parts.write({}, 3)
    line = f"{worker_file(tmp_path, 1)}: no checkpoint was written: No space left on device\n"
    assert capsys.readouterr().out == 2 * line
    assert parts.find(3) is not None


def test_a_late_worker_does_not_bring_removed_checkpoints_back(tmp_path, capsys):
    parts = WorkerCheckpoint(str(folder := tmp_path / "t.h5.checkpoint"), "run", 1)
    parts.write({}, 3)
    assert parts.find(3) is not None
    checkpoint.remove(folder)
    parts.write({}, 4)
    assert (list(tmp_path.iterdir()), capsys.readouterr().out) == ([], "")


def test_plugins_are_those_of_the_user_alone(config: Config, tmp_path: Path) -> None:
    """The resolved configuration of a checkpoint is not compared with the user's."""
    path = Path(shutil.copytree(checkpoint.folder_of(config.trace.path), tmp_path / "t.h5.checkpoint"))
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')\n")
    header = checked.read(path / "coordinator", checkpoint.CoordinatorFile)
    header.resolved["plugins"] = [str(tmp_path / "mine.py")]
    checked.write(path / "coordinator", header)
    resumed = resolve({}, [*JOB, f"trace.path={tmp_path / 't.h5'}"])
    found = checkpoint.find(resumed)
    assert found is not None
    assert found.resumed_config(resumed).plugins == []
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("key", "keys"),
    [
        ("reduce.kind 'allreduce'", ("scheme.name=allreduce", "code.family=uncoded", "code.blocks=1")),
        ("memory.kind 'difference'", ("memory.kind=difference",)),
    ],
)
def test_where_others_rely_on_workers_all_must_have_written(
    key: str, keys: tuple[str, ...], tmp_path: Path
) -> None:
    config = resolve({}, [*keys, "workers.count=2", f"trace.path={tmp_path / 't.h5'}"])
    given = msgspec.to_builtins(config)
    folder = checkpoint.folder_of(config.trace.path)
    folder.mkdir()
    header = checkpoint.CoordinatorFile("run", given, given, 1, 1, [2, 2], (0, 0), {}, False, {})
    checked.write(folder / "coordinator", header)
    checked.write(worker_file(folder, 1), WorkerFile("run", 1, 2, []))
    with pytest.raises(InputError, match=f"worker 0 has no part in a checkpoint, which {key} requires"):
        checkpoint.find(config)
    checked.write(worker_file(folder, 0), WorkerFile("run", 0, 2, []))
    assert checkpoint.find(config) is not None


def test_of_preset_auto_the_chosen_one_tells_whether_all_must_have_written(tmp_path: Path) -> None:
    config, chosen = (
        resolve({}, [f"scheme.preset={preset}", "workers.count=2", f"trace.path={tmp_path / 't.h5'}"])
        for preset in ("auto", "ring")
    )
    folder = checkpoint.folder_of(config.trace.path)
    folder.mkdir()
    given, resolved = msgspec.to_builtins(config), msgspec.to_builtins(chosen)
    header = checkpoint.CoordinatorFile("run", given, resolved, 1, 1, [2, 2], (0, 0), {}, False, {})
    checked.write(folder / "coordinator", header)
    with pytest.raises(InputError, match=r"workers 0 and 1 have no part .* reduce.kind 'allreduce'"):
        checkpoint.find(config)


def test_stop_and_trace_may_differ(config: Config) -> None:
    other = resolve({}, [*JOB, f"trace.path={config.trace.path}", "stop.updates=50", "trace.flush_s=3.0"])
    found = checkpoint.find(other)
    assert found is not None
    assert found.resumed_config(other).stop.updates == 50


def test_numbers_that_do_not_fit_are_refused(config: Config) -> None:
    found = checkpoint.find(config)
    assert found is not None

    def enlarged(state: Any) -> Any:
        if isinstance(state, dict):
            return {name: enlarged(each) for name, each in state.items()}
        return 2**63 if isinstance(state, int) else state

    found.header.state = enlarged(found.header.state)
    run = built(config)
    with pytest.raises(InputError, match=r"does not fit this run: coordinator: roster: arrivals: .* large"):
        found.restore(run.stateful, run.components.config)


def test_a_class_of_a_plug_in_that_does_not_declare_its_state_ends_the_run_at_its_start(config, tmp_path):
    class Undeclared(Monitor):
        def __init__(self) -> None:
            """Begin."""

    run = built(config)
    run.checkpoints = CheckpointWriter(tmp_path / "t.h5", "it", config, config, print)
    run.monitor.__class__ = Undeclared
    with pytest.raises(InputError, match="Undeclared: a class with its own __init__"):
        run.run()
    assert run.coordinator.roster.arrivals == 0
