"""Simulations that are external programs: templates, outputs, limits, and runs from nothing to a fit."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from outcomes import assert_replays, error_line, refused
from paths import ROOT

import pdcode
from pdcode.__main__ import main
from pdcode.differences.program import Program, as_number
from pdcode.launch import launcher

SOURCE = r"""
#include <math.h>
#include <stdio.h>

int main(int argc, char **argv) {
    double height, rate, floor;
    FILE *in = fopen(argv[1], "r"), *out = fopen(argv[2], "w");
    if (argc < 3 || fscanf(in, "height %lf rate %lf floor %lf", &height, &rate, &floor) != 3) return 1;
    for (int t = 0; t < 20; t++) fprintf(out, "t=%d y=%.17g\n", t, height * exp(-rate * t / 4) + floor);
    return 0;
}
"""
TRUTH = {"height": 3.0, "rate": 0.7, "floor": 0.5}


def document() -> str:
    """The configuration of a program in the documentation."""
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    return re.search(r"```toml\n(\[problem\]\nkind = \"simulation\"\ncommand = .*?)```", text, re.DOTALL)[1]


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """The configuration of the documentation, beside a program in C."""
    (tmp_path / "decay.c").write_text(SOURCE, encoding="utf-8")
    compiler = shutil.which("cc") or shutil.which("gcc")
    subprocess.run([compiler, "decay.c", "-o", "decay", "-lm"], cwd=tmp_path, check=True)
    (tmp_path / "decay.tpl").write_text("height {{ height }}\nrate {{rate:.17e}}\nfloor {{ floor }}\n")
    t = np.arange(20)
    np.savetxt(tmp_path / "observed.txt", 3 * np.exp(-0.7 * t / 4) + 0.5, "%.17g")
    path = tmp_path / "job.toml"
    path.write_text(document(), encoding="utf-8")
    return path


def test_a_program_is_fitted_over_mpi_by_twelve_lines(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for line in job.read_text(encoding="utf-8").splitlines() if line.strip()]
    assert len(lines) <= 12
    out = job.parent / "a.h5"
    trace = pdcode.run(str(job), workers=3, output=out, progress=False)
    np.testing.assert_allclose(trace.theta, [*TRUTH.values()], atol=1e-6)
    (job.parent / "decay").unlink()  # a replay reads the values
    assert_replays(out, capsys)
    table, used = trace.evaluations, int((trace.arrivals["status"] != 1).sum())
    assert (table["what"] == 0).sum() == 3 * used
    assert ((table["what"] == 1).sum(), (table["what"] == 2).sum()) == (20 * used, 0)


def script(tmp_path: Path, text: str, template: str = "{{ a }} {{ b }}", **keys: object) -> Program:
    """A program in Python, whose text finds a and b."""
    path = tmp_path / "program.py"
    path.write_text("import sys\na, b = map(float, open(sys.argv[1]).read().split())\n" + text)
    (tmp_path / "in.tpl").write_text(template)
    command = f"{sys.executable} program.py {{input}}" + (" {output}" if "argv[2]" in text else "")
    return Program(command, str(tmp_path / "in.tpl"), ["a", "b"], **keys)


@pytest.mark.parametrize(
    ("text", "select", "values"),
    [
        ("print(a, 'and', b * 2)", None, [1.5, -4.0]),
        ("print(f'x = {a:E}; f = {a + b}')", r"f = (\S+)", -0.5),
        ("print('t,y'); print(f'0,{a}'); print(f'1,{b}')", "csv:y", [1.5, -2.0]),
        ("import json; json.dump({'r': {'all': [a, b]}}, open(sys.argv[2], 'w'))", "json:r.all", [1.5, -2]),
        ("import json; print(json.dumps([0, {'loss': a * b}]))", "json:1.loss", -3.0),
    ],
)  # fmt: skip
def test_numbers_are_found_in_its_output(
    text: str, select: str | None, values: object, tmp_path: Path
) -> None:
    np.testing.assert_array_equal(script(tmp_path, text, select=select)(np.array([1.5, -2.0])), values)


def test_fortrans_exponents_are_numbers() -> None:
    assert [as_number(each) for each in ("1.5D+02", "-.5d0", "3")] == [150.0, -0.5, 3.0]


@pytest.mark.parametrize(
    ("text", "keys", "words"),
    [
        ("sys.exit('no mesh')", {}, "no mesh"),
        ("print('t'); print(1)", {"select": "csv:y"}, "the output has no 'csv:y'"),
        ("print('none')", {"select": "json:a"}, "the output has no 'json:a'"),
        ("len(sys.argv[2])", {}, "wrote no output"),
        ("print(1, 2, 3)", {"observed": np.zeros(2)}, "3 numbers, and 2 are observed"),
        ("bytearray(1 << 32)", {"bytes": 1 << 30}, "MemoryError"),
    ],
)  # fmt: skip
def test_what_fails_is_an_error_of_one_line(text: str, keys: dict, words: str, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=re.escape(words)):
        script(tmp_path, text, **keys)(np.array([1.0, 2.0]))


def test_a_program_that_takes_too_long_ends_with_its_children(tmp_path: Path) -> None:
    child = "import subprocess, time; p = subprocess.Popen(['sleep', '600']); "
    child += "open('pid', 'w').write(str(p.pid)); time.sleep(600)"
    with pytest.raises(RuntimeError, match=r"took more than 1\.5 s"):
        script(tmp_path, child, seconds=1.5)(np.array([1.0, 2.0]))
    number = int((tmp_path / "pid").read_text())
    for _ in range(100):
        try:
            state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state == "Z":
            return
        time.sleep(0.05)
    os.kill(number, 9)
    raise AssertionError("a child of the program goes on")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["problem.names=['height','rate','depth']"], "'depth', which the template does not have"),
        (["problem.names=['height','rate']"], "problem.names: 2 names for 3 parameters"),
        (["problem.command='./decay'"], "problem.command: './decay' has no {input}"),
        (["problem.command='./nothing {input} {output}'"], "problem.command: RuntimeError: ./nothing: "),
        (["problem.select='y='"], "problem.select: 'y=' needs one group"),
        (["problem.select='('"], "problem.select: '(' is no regular expression"),
        (["problem.function='mine.py:f'"], "problem.function"),
        (["problem.observed='nowhere.txt'"], "cannot be read"),
        (["problem.template='nowhere.tpl'"], "cannot be read"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(settings: list[str], words: str, job: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(job.parent)
    sets = [word for each in settings for word in ("--set", each)]
    assert main(["simulate", str(job), "-o", str(job.parent / "a.h5"), *sets]) == 2
    assert words in error_line(capsys)


def test_names_that_only_the_template_has_are_refused(tmp_path: Path) -> None:
    with refused("problem.template: 'c', which problem.names does not have"):
        script(tmp_path, "", "{{ a }} {{ b }} {{ c }}")


def test_a_program_does_not_outlive_its_worker(tmp_path: Path) -> None:
    (tmp_path / "in.tpl").write_text("{{ a }}", encoding="utf-8")
    (tmp_path / "run.sh").write_text("sleep 61 &\necho $$ $! > pids.new\nmv pids.new pids\nwait\n")
    code = "import sys, numpy as np; from pdcode.differences.program import Program\n"
    code += "Program('sh run.sh {input}', sys.argv[1], ['a'])(np.ones(1))"
    worker = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "in.tpl")])
    deadline = time.monotonic() + 60
    while not (tmp_path / "pids").exists():
        assert worker.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    worker.kill()
    worker.wait()
    pids = [int(each) for each in (tmp_path / "pids").read_text().split()]
    while any(is_running(each) for each in pids):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False


RANKS = """
import os, sys
from mpi4py import MPI

world = MPI.COMM_WORLD
a, b = map(float, open(sys.argv[1]).read().split())
found = world.gather(a - 2 if world.rank == 0 else b - 3)
if world.rank == 0:
    print(a - 2, found[1] if world.size == 2 else b - 3, int(os.environ["OMP_NUM_THREADS"]) - 2)
"""


@pytest.mark.every(2)
@pytest.mark.parametrize("start", ["", "mpirun --oversubscribe -n {cores} "])
def test_a_program_has_mpi_ranks_of_its_own(start: str, tmp_path: Path) -> None:
    (tmp_path / "ranks.py").write_text(RANKS)
    (tmp_path / "in.tpl").write_text("{{ a }} {{ b }}")
    _, extra = launcher.command(1, [])
    mpirun = start.replace("mpirun", launcher.find_mpirun())
    job = {
        "problem": {
            "kind": "simulation", "command": f"{mpirun}{sys.executable} ranks.py {{input}}",
            "template": str(tmp_path / "in.tpl"), "names": ["a", "b"], "start": [1.0, 1.0], "residuals": 3,
            "cores": 2, "seconds": 60.0,
        },
        "scheme": {"name": "differences"}, "stop": {"updates": 9},
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, value in extra.items():
            patch.setenv(name, value)
        trace = pdcode.run(job, workers=2, output=tmp_path / "a.h5", progress=False)
    np.testing.assert_allclose(trace.theta, [2, 3], atol=1e-6)
    assert not np.isnan(trace.arrivals["loss"]).any()
