"""Kinds of files to damage: small whole files, and what reads them."""

import os
import random
import shutil
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import damage
import fabricate
import foreign
import h5py
import inputs
import msgspec
import numpy as np
import recordings
from interrupted import built, interrupted
from pdcode_packings import search
from pdcode_packings.restarts import PackingProblem

from pdcode import simulate
from pdcode.__main__ import main
from pdcode.analysis.summary import summarise
from pdcode.api.traces import Trace
from pdcode.codes import Code
from pdcode.config import Config
from pdcode.config import kinds as registry
from pdcode.config import load as configfile
from pdcode.events import read_events
from pdcode.session import checkpoint
from pdcode.session.checkpoint import CheckpointWriter, CoordinatorFile
from pdcode.studies.comparison import Comparison
from pdcode.trace.reader import COLUMNS, TraceReader
from pdcode.util import checked, progress
from pdcode.util.errors import Failure
from pdcode.virtual import calibration

JOB = """
problem = {kind = "least-squares", data = "synthetic", samples = 60, features = 12, batch = 4}
code = {blocks = 4, weight = 2}
workers = {count = 3}
stragglers = {kind = "shifted-exponential", shift_s = 0.001, mean_s = 0.001, slow = [1], slowdown = 2}
stop = {updates = 12, loss = 1e-3}
trace = {progress_s = 1e-3}
"""


class Kind(NamedTuple):
    """A kind of file to damage.

    `samples` writes whole files of this kind into a folder, which also holds `job.toml`, a small
    configuration, and a named pipe, and returns their paths; `damage` damages a file in place, and returns
    how; `read` reads a damaged file, or a part of it, in this process, as commands do; `commands` returns
    lists of arguments of `pdcode`, which write in the folder of the damaged file only.
    """

    samples: Callable[[Path], list[Path]]
    damage: Callable[[random.Random, Path], str]
    read: Callable[[random.Random, Path], object]
    commands: Callable[[random.Random, Path, str], list[list[str]]]
    every: int = 100  # cases from one with whole commands to the next
    seconds: float = 5.0  # limit of processor time


def quiet(arguments: list[str]) -> int:
    """Run a command in this process without its output and progress; return its exit code."""
    kept = sys.stdout
    with patch.dict(os.environ, progress.OFF), open(os.devnull, "w") as sys.stdout:
        try:
            return main(arguments)
        finally:
            sys.stdout = kept


def traces(folder: Path) -> list[Path]:
    """Record small runs on the virtual clock: several schemes, times only, a file of HDF5's oldest format."""
    job = str(folder / "job.toml")
    runs = {
        "virtual": ["memory.kind=worker", "downlink.kind=codewords"],
        "cyclic": ["scheme.name=cyclic", "update.mode=first", "problem.batch=0"],
        "matched": ["code.family=matched", "memory.kind=difference", "optimizer.momentum=0.5"],
        "sampled": ["trace.arrivals=sampled", "trace.sample=2"],
        "timing": [],
    }
    for name, options in runs.items():
        keys = [part for option in options for part in ("--set", option)]
        only = ["--timing-only"] if name == "timing" else []
        assert quiet(["simulate", job, "-o", str(folder / f"{name}.h5"), *keys, *only]) == 0
    _rewrite(folder / "virtual.h5", folder / "old.h5")  # has no checksums
    return [folder / f"{name}.h5" for name in (*runs, "old")]


def _rewrite(path: Path, new: Path, **options: Any) -> None:
    """Write the content of an HDF5 file, also of one that is open, to another one."""
    with h5py.File(path, swmr=True) as file, h5py.File(new, "w", **options) as copy:
        copy.attrs.update(file.attrs)
        for name in file:
            file.copy(name, copy)


def read_trace(source: random.Random, path: Path) -> None:
    """Read some of a trace, as reading all of it takes 60 ms."""
    trace = TraceReader(path)
    way = source.randrange(9)
    if way == 0:
        summarise(trace)
    elif way == 1:
        calibration.fit(trace, 1e6, "median")
    elif way == 2:
        inputs.read_delays(source, path)
    elif way == 3:
        Code.load_all(path)
    elif way == 4:
        calibration.config_of(trace)
    elif way == 8:
        Trace(path).model()
    else:
        table = trace._table(source.choice([*COLUMNS]))
        sum(len(table[key]) for key in source.sample([*table], min(8, len(table))))
        assert (trace.code, trace.code_attributes, trace.checkpoint, trace.counters) is not None


def trace_commands(source: random.Random, path: Path, job: str) -> list[list[str]]:
    trace, out = str(path), ["-o", str(path.with_suffix(".out.h5"))]
    commands = [
        ["show", trace, *_figure(source, path)], ["show", trace, trace, *_figure(source, path)],
        ["codes", "show", trace], ["replay", trace], ["predict", trace, job],
        ["report", "--quick", trace, "-o", str(path.with_suffix(".html"))],
        ["simulate", job, "--stragglers", trace, *out], ["simulate", job, "--cost", trace, *out],
    ]  # fmt: skip
    size = ["--candidates", "2", "--seeds", "1", "--processes", "1"]
    return [*commands, ["plan", job, "--trace", trace, *size, "-o", str(path.with_suffix(".toml"))]]


def fabricated(folder: Path) -> list[Path]:
    """Record what is fabricated anew."""
    fabricate.surroundings(folder)
    return traces(folder)


def nothing(source: random.Random, path: Path) -> None:
    """Read nothing: commands do."""


def use(*words: str) -> Callable[[random.Random, Path, str], list[list[str]]]:
    """Return what gives the commands of a use of a trace: words, and ``{}`` for its file."""

    def commands(source: random.Random, path: Path, job: str) -> list[list[str]]:
        command, *options = words
        out = path.with_suffix(".out.toml" if command == "plan" else ".out.h5")
        return [[command, job, *(str(path) if each == "{}" else each for each in options), "-o", str(out)]]

    return commands


def predictions(source: random.Random, path: Path, job: str) -> list[list[str]]:
    rows = str(Path(job).with_name("rows.csv"))
    formats = dict(registry.members("exporters"))
    export = ["export", str(path), "--to", to := source.choice([*formats])]
    suffix = ".csv" if to == "pipit" else formats[to].suffix
    return [
        ["predict", str(path), rows, "-o", str(path.with_suffix(".out.csv"))],
        [*export, "-o", str(path.with_suffix(f".{to}{suffix}"))],
    ]


SMALL = "--seeds", "1", "--processes", "1"
PLAN = "--candidates", "2", *SMALL


def resumed(folder: Path) -> list[Path]:
    """Fail a run after its third checkpoint; its trace and that are the files to fabricate."""
    fabricate.surroundings(folder)
    (made := folder / "made").mkdir()
    taken, take = list[None](), CheckpointWriter.take

    def fail(writer: CheckpointWriter, *arguments: Any) -> None:
        take(writer, *arguments)
        writer.wait()
        taken.append(None)
        if len(taken) == 3:
            raise Failure("enough")

    with patch.object(CheckpointWriter, "take", fail), patch.object(sys, "stderr", open(os.devnull, "w")):
        assert quiet(["simulate", str(folder / "job.toml"), *_of_resumed(made / "t.h5")]) == 1
    _rewrite(made / "t.h5", folder / "t.h5", libver="v110")
    shutil.copy(made / "t.h5.checkpoint" / "coordinator", folder)
    return [folder / "t.h5", folder / "coordinator"]


def recorded(folder: Path) -> list[Path]:
    """Write recordings of each format, and the dictionary that images of them are made with."""
    problem = {"kind": "sparse-coding", "data": "photographs", "samples": 50, "atoms": 6, "thumbnail": 4}
    config = {"problem": problem, "optimizer": {"proximal": {"kind": "unit-norm"}}, "stop": {"updates": 2}}
    simulate(config | {"scheme": {"name": "uncoded"}}, output=folder / "dictionary.h5", progress=False)
    names = [*recordings.FORMATS, "a.aedat4"]
    for name in names:
        write = recordings.FORMATS.get(name, lambda events: recordings.aedat4(events, "lz4"))
        (folder / name).write_bytes(write(recordings.example(name, 60)))
    return [folder / name for name in names]


def read_recording(source: random.Random, path: Path) -> None:
    read_events(path)


def reconstructions(source: random.Random, path: Path, job: str) -> list[list[str]]:
    made = str(Path(job).with_name("dictionary.h5"))
    film = ["--film", str(path.with_suffix(".out.gif"))]
    return [["reconstruct", made, str(path), "--size", "16", "--frames", "2", *film]]


def _of_resumed(path: Path) -> list[str]:
    keys = ["memory.kind=worker", "trace.checkpoint_s=0.001"]
    return ["-o", str(path), *(part for key in keys for part in ("--set", key))]


def damage_resumed(source: random.Random, path: Path) -> str:
    return (damage_checkpoint if path.name == "coordinator" else fabricate.trace)(source, path)


def resume_commands(source: random.Random, path: Path, job: str) -> list[list[str]]:
    """Put the damaged file beside the other one, and resume."""
    folder, whole = path.parent / "again", Path(job).parent
    place = folder / "t.h5.checkpoint"
    place.mkdir(parents=True, exist_ok=True)
    for each in (whole / "t.h5", whole / "coordinator"):
        shutil.copy(path if path.name == each.name else each, place if each.name == "coordinator" else folder)
    return [["simulate", job, "--resume", *_of_resumed(folder / "t.h5")]]


def codes(folder: Path) -> list[Path]:
    """Design small codes."""
    designs = {
        "net": ["-n", "16", "-k", "16", "-w", "4"],
        "random": ["-n", "9", "-k", "5", "-w", "3"],
        "repetition": ["-n", "8", "-k", "4"],
    }
    for name, options in designs.items():
        assert quiet(["codes", "design", name, *options, "-o", str(folder / f"{name}.h5")]) == 0
    return [folder / f"{name}.h5" for name in designs]


def read_code(source: random.Random, path: Path) -> None:
    Code.load_all(path)


def code_commands(source: random.Random, path: Path, job: str) -> list[list[str]]:
    return [["codes", "show", str(path), *_figure(source, path)], ["show", str(path)]]


def comparisons(folder: Path) -> list[Path]:
    """Compare two schemes briefly."""
    job, path = str(folder / "job.toml"), folder / "compared.h5"
    schemes = ["--schemes", "yours,uncoded", "--seeds", "2", "--processes", "1", "-o", str(path)]
    assert quiet(["compare", job, *schemes]) == 0
    return [path]


def read_comparison(source: random.Random, path: Path) -> None:
    Comparison.load(path).read_configs(str(path))


def comparison_commands(source: random.Random, path: Path, job: str) -> list[list[str]]:
    return [["show", str(path), *_figure(source, path)]]


def _figure(source: random.Random, path: Path) -> list[str]:
    """Ask for a figure now and then, as it takes a second."""
    return [] if source.randrange(100) else ["--figure", str(path.with_suffix(".svg"))]


def checkpoints(folder: Path) -> list[Path]:
    """Take a checkpoint in the middle of a run."""
    config = _checkpointed(folder)
    interrupted(config)
    path = checkpoint.folder_of(config.trace.path) / "coordinator"
    return [path.rename(folder / path.name)]


def _checkpointed(folder: Path) -> Config:
    return configfile.resolve(tomllib.loads(JOB), [f"trace.path={folder / 't.h5'}", "memory.kind=worker"])


OF_HEADERS = (
    None, 7, 2**62, 1e300, float("nan"), "x", b"x", [], {}, [[7]], [None], {"a": 1}, {7: []},
    {"dtype": "<f4", "shape": [1], "at": 10**9}, {"dtype": "|O", "shape": [1], "at": 0},
    {"dtype": "<f8", "shape": [-1], "at": 0}, {"dtype": "V8", "shape": [2**40], "at": -1},
)  # fmt: skip
OF_STATES = (
    None, 7, "x", b"x", [], {}, [[7]], [None], {"a": 1}, {7: []}, np.zeros(1), np.zeros(1, "f4"),
    np.full(5, -1), np.zeros((0, 3), "i4"), {"dtype": "<U9", "shape": [], "at": 0},
)  # fmt: skip


def damage_checkpoint(source: random.Random, path: Path) -> str:
    """Damage the bytes, or what the header says, so that the digest is right."""
    if not source.randrange(3):
        return damage.content(source, path)
    tree = msgspec.structs.asdict(checked.read(path, CoordinatorFile))
    place, others = (tree["state"], OF_STATES) if source.randrange(4) else (tree, OF_HEADERS)
    said = ", ".join(damage.mutate(source, place, others) for _ in range(source.choice([1, 1, 3])))
    checked.write(path, tree)
    checked.older(path).unlink()
    return said


def read_checkpoint(source: random.Random, path: Path) -> None:
    """Go on from it, with other numbers of workers, too."""
    config = _checkpointed(path.parent)
    place = checkpoint.folder_of(config.trace.path)
    place.mkdir()
    shutil.copy(path, place)
    if not source.randrange(4):
        config = config.with_keys(workers={"count": 4})
    found = checkpoint.find(config)
    assert found is not None
    run = built(found.resumed_config(config))
    found.restore(run.stateful, run.components.config)


def checkpoint_commands(source: random.Random, path: Path, job: str) -> list[list[str]]:
    read = path.parent / "again"
    (read / "t.h5.checkpoint").mkdir(parents=True, exist_ok=True)
    shutil.copy(path, read / "t.h5.checkpoint")
    keys = ["--set", f"trace.path={read / 't.h5'}", "--set", "memory.kind=worker"]
    return [["simulate", job, "--resume", "-o", str(read / "t.h5"), *keys]]


MAX_COMPRESSION = PackingProblem(4, 3, 2, 0, "free")


def states(folder: Path) -> list[Path]:
    """Search for a code, and keep the state of the search."""
    design = ["codes", "design", "optimized", "-n", "4", "-k", "3", "-w", "2"]
    options = ["--option", f"state={folder / 'state.npz'}", "--option", "restarts=3"]
    assert quiet([*design, *options, "-o", str(folder / "optimized.h5")]) == 0
    return [folder / "state.npz"]


def read_state(source: random.Random, path: Path) -> None:
    search.SearchState(MAX_COMPRESSION, shutil.copy(path, path.with_name("copy.npz")))  # it is written, too


def state_commands(source: random.Random, path: Path, job: str) -> list[list[str]]:
    return []


def import_(path: Path) -> list[str]:
    """Return the format of a file, by its name, and all files of its job."""
    name = foreign.format_of(path)
    others = path.parents[1].glob(f"{name}_*") if "_" in path.name else [path]
    return [name, *(str(path if each.name == path.name else each) for each in sorted(others))]


def read_import(source: random.Random, path: Path) -> None:
    name, *files = import_(path)
    registry.find("importers", name).read(files)


def import_commands(source: random.Random, path: Path, job: str) -> list[list[str]]:
    return [["import", *import_(path), "-o", str(path.with_suffix(".out.h5"))]]


KINDS = {
    "configurations": Kind(
        inputs.configurations, inputs.configuration, inputs.read_configuration, inputs.configuration_commands
    ),
    "tables": Kind(inputs.tables, inputs.text, inputs.read_table, inputs.table_commands),
    "traces": Kind(traces, damage.hdf5, read_trace, trace_commands),
    "stragglers": Kind(fabricated, fabricate.trace, nothing, use("simulate", "--stragglers", "{}"), 1, 60.0),
    "models": Kind(fabricated, fabricate.trace, nothing, predictions, 1, 60.0),
    "costs": Kind(fabricated, fabricate.trace, nothing, use("simulate", "--cost", "{}"), 1, 60.0),
    "plans": Kind(
        fabricated,
        fabricate.trace,
        nothing,
        use("plan", "--trace", "{}", *PLAN),
        1,
        60.0,
    ),
    "resumed": Kind(resumed, damage_resumed, nothing, resume_commands, 1, 60.0),
    "rates": Kind(
        comparisons,
        fabricate.comparison,
        nothing,
        use("compare", "--rates", "{}", "--schemes", "yours,uncoded", *SMALL),
        1,
        60.0,
    ),
    "checkpoints": Kind(checkpoints, damage_checkpoint, read_checkpoint, checkpoint_commands),
    "codes": Kind(codes, damage.hdf5, read_code, code_commands),
    "states": Kind(states, inputs.npz, read_state, state_commands),
    "comparisons": Kind(comparisons, damage.hdf5, read_comparison, comparison_commands),
    "npz": Kind(inputs.data_of(".npz"), inputs.npz, inputs.read_data, inputs.data_commands),
    "npy": Kind(inputs.data_of("a.npy"), damage.content, inputs.read_data, inputs.data_commands),
    "csv": Kind(inputs.data_of(".csv", ".csv.gz"), inputs.text, inputs.read_data, inputs.data_commands),
    "parquet": Kind(inputs.data_of(".parquet"), damage.content, inputs.read_data, inputs.data_commands),
    "svmlight": Kind(inputs.data_of(".svm", ".svm.gz"), inputs.text, inputs.read_data, inputs.data_commands),
    "idx": Kind(inputs.data_of("ubyte", "ubyte.gz"), inputs.text, inputs.read_data, inputs.data_commands),
    "hdf5": Kind(inputs.data_of(".h5"), inputs.hdf5, inputs.read_data, inputs.data_commands),
    "delays": Kind(inputs.delays, inputs.delay, inputs.read_delays, inputs.delay_commands),
    "imports": Kind(foreign.samples, inputs.text, read_import, import_commands),
    "recordings": Kind(recorded, inputs.text, read_recording, reconstructions),
    "spot": Kind(inputs.spot, inputs.text, inputs.read_spot, inputs.spot_commands),
}
