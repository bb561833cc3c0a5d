"""Commands on damaged traces and codes: exit code 2 and one line that names the file, whatever is damaged."""

import os
import re
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from outcomes import error_line

from pdcode.__main__ import main
from pdcode.cli import guard
from pdcode.trace.reader import TraceReader
from pdcode.trace.writer import read_earlier_rows
from pdcode.util.errors import InputError

pytestmark = pytest.mark.slow

JOB = """
problem = {kind = "least-squares", data = "synthetic", samples = 20, features = 4}
code = {blocks = 4, weight = 2}
workers = {count = 2}
stragglers = {kind = "shifted-exponential", shift_s = 0.001, mean_s = 0.001}
stop = {updates = 6}
trace = {progress_s = 1e-3}
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small trace, a code and a configuration."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "job.toml").write_text(JOB)
    assert main(["simulate", str(folder / "job.toml"), "-o", str(folder / "a.h5")]) == 0
    assert (
        main(["codes", "design", "net", "-n", "8", "-k", "4", "-w", "2", "-o", str(folder / "net.h5")]) == 0
    )
    return folder


def attribute(place: str, key: str, value: Any) -> Callable[[h5py.File], None]:
    return lambda file: file[place].attrs.__setitem__(key, value)


def column(place: str, value: Any) -> Callable[[h5py.File], None]:
    return lambda file: file[place].__setitem__(..., value)


def put(place: str, value: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[place]
        if value is not None:
            file[place] = value

    return change


def both(*changes: Callable[[h5py.File], None]) -> Callable[[h5py.File], None]:
    return lambda file: [change(file) for change in changes] and None


SHOW = [
    (attribute("/", "blocks", 7.5), "attribute blocks is 7.5"),
    (attribute("/", "blocks", [1, 2]), "blocks, rows_per_task, weights are"),
    (lambda file: file.attrs.__delitem__("blocks"), "blocks, rows_per_task, weights are"),
    (attribute("/", "gradient_bytes", "many"), "attribute gradient_bytes is 'many'"),
    (attribute("/", "header_bytes", -1), "attribute header_bytes is -1"),
    (attribute("/", "rows_per_task", h5py.Empty("i8")), "attribute rows_per_task is "),
    (attribute("/", "weights", [[1]]), "attribute weights is"),
    (attribute("/", "workers", 50_000_000), "attribute workers is 50000000, and 2 are listed"),
    (attribute("/", "schema_version", "1"), "attribute schema_version is '1'"),
    (attribute("/", "schema_version", -1), "attribute schema_version is -1"),
    (attribute("/", "schema_version", 1.5), "attribute schema_version is 1.5"),
    (attribute("/", "sample", 0), "attribute sample is 0"),
    (attribute("checkpoint", "spent_evaluate_ns", "long"), "counter spent_evaluate_ns is 'long'"),
    (attribute("checkpoint", "spent_evaluate_ns", np.nan), "counter spent_evaluate_ns is nan"),
    (attribute("checkpoint", "t_stop_ns", np.uint64(2**64 - 1)), "counter t_stop_ns is 18446744073709551615"),
    (attribute("checkpoint", "lost", np.inf), "counter lost is inf"),
    (lambda file: file["checkpoint"].attrs.__delitem__("used"), "counter used is missing"),
    (put("workers/host", None), "workers has no column host"),
    (column("workers/rank", 1), "the ranks of workers are not consecutive"),
    (column("arrivals/staleness", -1), "column staleness of arrivals has -1"),
    (column("arrivals/worker", 10**9), "column worker of arrivals has 1000000000, and there are 2 workers"),
    (column("arrivals/status", 9), "column status of arrivals has 9"),
    (put("arrivals/task", np.zeros((3, 2), int)), r"column task of arrivals is int64 \(3, 2\)"),
    (put("arrivals", 3), "arrivals is not a group"),
    (put("progress", h5py.SoftLink("/progress")), "progress is not a group"),
    (
        both(
            lambda file: os.mkfifo(Path(file.filename).with_name("pipe")),
            put("progress", h5py.ExternalLink("pipe", "/")),
        ),
        "progress is not a group",  # nobody waits for the pipe
    ),
    (
        lambda file: file["arrivals/task"].resize((2**40,)),
        "column task of arrivals claims 8796093022208 bytes",
    ),
    (attribute("code/4", "weight", "x"), "attribute of the code of 4 blocks weight is 'x'"),
    (put("code/4", 3), "4 is not a group"),
    (attribute("/", "config_resolved", '{"stop": {"loss": "x"}}'), "stop.loss: expected number"),
    (
        attribute("/", "config_resolved", '{"memory": {"keep": "x"}}'),
        "damaged: .*memory.keep: expected number",
    ),
    (attribute("/", "config_resolved", '{"optimizer": {"momentum": [1]}}'), "optimizer.momentum: expected"),
    (attribute("/", "config_resolved", '{"stop": [1]}'), "config_resolved: stop: expected table"),
    (attribute("/", "config_resolved", '{"problem": {"data": "\\ud800"}}'), "surrogates not allowed"),
    ((b'"least-squares"', b'"least\xff\xfequares"'), "attribute 'config' is not UTF-8 text"),
]
REPLAY = [
    (attribute("/", "setup_bytes_up", [1, 2]), r"attribute setup_bytes_up is \[1, 2\]"),
    (attribute("checkpoint", "bytes_down", 1j), "counter bytes_down is 1j"),
    (put("checkpoint", 3), "checkpoint is not a group"),
    (put("checkpoint", h5py.SoftLink("/nowhere")), "checkpoint is not a group"),
    (put("checkpoint/theta", h5py.ExternalLink("missing.h5", "/x")), "theta is missing"),
    (put("checkpoint/theta", "text"), "checkpoint/theta is .S4"),
    (put("code/4/matrix", np.zeros((2, 3))), r"the matrix of code/4 is float64 \(2, 3\)"),
]
COSTS = [
    (
        both(attribute("/", "clock", "real"), column("arrivals/bytes_down", -1)),
        "column bytes_down of arrivals has -1",
    ),
    (put("progress/loss", h5py.Empty("f8")), "column loss of progress is float64 None"),
    (column("progress/t_ns", -5), "column t_ns of progress has -5"),
    (column("arrivals/t_recv_ns", -(2**63)), "column t_recv_ns of arrivals has -9223372036854775808"),
]
CODE = [
    (column("supports", 98), "do not fit 4 blocks"),
    (column("supports", -1), "do not fit 4 blocks"),
    (column("values", np.nan), "codeword 0 has norm nan, not 1"),
    (column("values", np.inf), "codeword 0 has norm inf, not 1"),
    (put("values", np.ones((8, 3))), r"values float64 \(8, 3\)"),
    (put("values", np.ones((8, 2), int)), "values int64"),
    (put("supports", None), "is not a code of pdcode"),
    (put("matrix", 1.0), r"matrix float64 \(\)"),
    (attribute("/", "blocks", -3), "attribute blocks is -3"),
    (attribute("/", "blocks", 10**12), "attribute blocks is 1000000000000"),
    (attribute("/", "blocks", 5), "5 blocks, and a matrix of shape"),
    (attribute("/", "options", "[1"), "options: "),
    (attribute("/", "notes", "3"), "options or notes are "),
    (lambda file: [put(name, None)(file) or file.create_dataset(name, (10**12, 4), kind)
                   for name, kind in (("supports", "i4"), ("values", "f8"))], "claims 16000000000000 bytes"),
]  # fmt: skip


def run(
    whole: Path, folder: Path, damage: Any, capsys: pytest.CaptureFixture[str], *command: str,
    name: str = "a.h5",
) -> str:  # fmt: skip
    """Run a command on a damaged copy, of which it must make one line; return the line."""
    path = folder / name
    path.write_bytes((whole / name).read_bytes())
    if isinstance(damage, tuple):
        path.write_bytes(path.read_bytes().replace(*damage, 1))
    else:
        with h5py.File(path, "r+") as file:
            damage(file)
    given = path.read_bytes()
    places = {"file": path, "job": whole / "job.toml", "out": folder / "out.h5"}
    assert main([each.format(**places) for each in command]) == 2
    told = error_line(capsys)
    assert str(path) in told
    assert not (folder / "out.h5").exists()
    assert path.read_bytes() == given
    return told


@pytest.mark.every(3)
@pytest.mark.parametrize(("damage", "expected"), SHOW, ids=[expected for _, expected in SHOW])
def test_show(whole, tmp_path, damage, expected, capsys):
    assert_told(run(whole, tmp_path, damage, capsys, "show", "{file}"), expected)


@pytest.mark.parametrize(("damage", "expected"), REPLAY, ids=[expected for _, expected in REPLAY])
def test_replay(whole, tmp_path, damage, expected, capsys):
    assert_told(run(whole, tmp_path, damage, capsys, "replay", "{file}"), expected)


@pytest.mark.parametrize(("damage", "expected"), COSTS, ids=[expected for _, expected in COSTS])
def test_simulate(whole, tmp_path, damage, expected, capsys):
    command = "simulate", "{job}", "--stragglers", "{file}", "-o", "{out}"
    assert_told(run(whole, tmp_path, damage, capsys, *command), expected)
    if "progress" not in expected:
        assert_told(run(whole, tmp_path, damage, capsys, "plan", "{job}", "--trace", "{file}"), expected)


@pytest.mark.parametrize(("damage", "expected"), CODE, ids=[expected for _, expected in CODE])
def test_codes_show(whole, tmp_path, damage, expected, capsys):
    command = "codes", "show", "{file}"
    assert_told(run(whole, tmp_path, damage, capsys, *command, name="net.h5"), expected)


def assert_told(told: str, expected: str) -> None:
    assert re.search(expected, told), told


def test_a_bug_is_not_taken_for_damage(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pdcode.trace.reader._check_bounds", None)
    with pytest.raises(TypeError, match="not callable"):
        main(["show", str(whole / "a.h5")])


def test_what_compresses_well_is_not_taken_for_damage(whole, tmp_path, monkeypatch):
    """The time to read a file grows with what its datasets hold, not with its size."""
    path, claims = tmp_path / "a.h5", []
    path.write_bytes((whole / "a.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        file.create_dataset("zeros", data=np.zeros(1 << 26, "i1"), chunks=(1 << 20,), compression=1)
    assert path.stat().st_size < 1 << 20
    for name in ("faulthandler.disable", "resource.setrlimit", "signal.signal"):
        monkeypatch.setattr(name, lambda *arguments: None)
    monkeypatch.setattr(guard, "_limit_processor_time", claims.append)
    guard._read_all(path)
    assert claims[0] == 0
    assert claims[-1] > 1 << 26


def test_the_users_own_limit_of_processor_time_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only root may raise it."""
    set_to: list[tuple[int, int]] = []
    monkeypatch.setattr("resource.setrlimit", lambda which, pair: set_to.append(pair))
    allowed = guard.LIMIT_S + 10
    for most, expected in ((resource.RLIM_INFINITY, allowed), (3600, allowed), (3, 3)):
        monkeypatch.setattr("resource.getrlimit", lambda which, most=most: (most, most))
        guard._limit_processor_time(10 * guard.RATE)
        assert set_to[-1] == (expected, most)


def test_a_bug_in_the_process_that_reads_first_is_no_damage(whole, monkeypatch, capfd):
    monkeypatch.setattr(guard.contents, "datasets", None)
    guard._status.cache_clear()
    with pytest.raises(RuntimeError, match=r"a\.h5 could not be read in a forked process"):
        main(["show", str(whole / "a.h5")])
    assert "TypeError" in capfd.readouterr().err


@pytest.mark.filterwarnings("error")
def test_numbers_that_no_run_has_are_taken_as_they_are(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes((whole / "a.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        file.attrs["clock"] = "real"
        file["arrivals/bytes_down"][...] = 0
        for key in ("t_start_ns", "t_compute_ns", "t_send_ns", "t_recv_ns"):
            file[f"arrivals/{key}"][...] = file["arrivals/t_dispatch_ns"][...]
    assert main(["show", str(path)]) == 0
    job, out = str(whole / "job.toml"), str(tmp_path / "out.h5")
    assert main(["simulate", job, "--cost", str(path), "-o", out]) == 0


def test_a_name_that_no_file_can_have_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("show", "replay"):
        assert main([command, "x" * 300]) == 2
        assert capsys.readouterr().err == f"pdcode: {'x' * 300}: File name too long\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("segments/arrivals", 3.0), "damaged: a column of segments is not one$"),
        (put("segments/arrivals", None), "damaged: segments has no column arrivals$"),
        (
            lambda file: file["segments/t_ns"].resize(0, 0),
            "segments has 0 rows, and had 1 at the checkpoint$",
        ),
    ],
)
def test_rows_to_go_on_from_are_checked(whole, tmp_path, change, message):
    path = Path(shutil.copy(whole / "a.h5", tmp_path))
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(InputError, match=message):
        read_earlier_rows(path, {"segments": 1})


def test_newer_files_are_not_called_damaged(whole, tmp_path, capsys):
    for name, command, key in (("a.h5", ["show"], "finished"), ("net.h5", ["codes", "show"], "seed")):
        newer = both(attribute("/", "schema_version", 99), attribute("/", key, "of another type"))
        told = run(whole, tmp_path, newer, capsys, *command, "{file}", name=name)
        assert re.search(r": has schema version 99; this pdcode reads up to \d\n$", told)


def test_a_short_trace_is_small(whole: Path) -> None:
    assert (whole / "a.h5").stat().st_size < 300_000
    assert TraceReader(whole / "a.h5").finished
