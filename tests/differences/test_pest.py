"""Simulations by PEST's files: control file, templates, instructions; errors name file and line."""

import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from outcomes import assert_replays, error_line

import pdcode
from pdcode.__main__ import main
from pdcode.differences.pest import Instructions, Pest, read_control, written

MODEL = r"""
import math
height, rate, floor, shift = (float(line.split("=")[1]) for line in open("model.in"))
with open("model.out", "w") as out:
    out.write("RESULTS\n\n")
    for i in range(10):
        out.write(f"  time {i:4d}   value:{height * math.exp(-rate * i / 3) + floor + shift:14.7E} end\n")
"""
TEMPLATE = "ptf #\nheight = #  height  #\nrate = #rate             #\nfloor = #floor#\nshift = #Shift    #\n"
INSTRUCTIONS = "\n".join(
    ["pif @", "@RESULTS@", "l1", *(f"l1 @value:@ !o{i}!" for i in range(9)), "l1 w w w", "& (o9)22:30"]
)
CONTROL = f"""pcf
* control data
restart estimation
4 10 2 0 1
1 1 single point 1 0 0
10.0 2.0 0.3 0.03 10
# a comment of PEST++
++overdue_giveup_fac(3)
* parameter groups
all relative 0.01 0.0 switch 2.0 parabolic
flo absolute 1e-4 0.0 switch 2.0 parabolic
* parameter data
height none factor 1.0 0.1 10.0 all 1.0 0.0 1
rate   log  factor 0.2 0.01 9.0 all 1.0 0.0 1
floor  none relative 0.1 -5 5 flo 10.0 0.0 1
shift  fixed relative 0.125 0 1 flo 1.0 0.0 1
* observation groups
obs
* observation data
{{observations}}
* model command line
"{sys.executable}" model.py
* model input/output
model.tpl model.in
model.ins model.out
* prior information
"""


@pytest.fixture
def job(tmp_path: Path) -> Path:
    values = (3 * math.exp(-0.7 * i / 3) + 0.5 + 0.125 for i in range(10))
    lines = [f"O{i} {value:.9f} {0 if i == 4 else 2.0} obs" for i, value in enumerate(values)]
    model = tmp_path / "model"
    model.mkdir()
    for name, text in {
        "model.py": MODEL, "model.tpl": TEMPLATE, "model.ins": INSTRUCTIONS,
        "model.pst": CONTROL.replace("{observations}", "\n".join(lines)),
    }.items():  # fmt: skip
        (model / name).write_text(text, encoding="utf-8")
    path = tmp_path / "job.toml"
    path.write_text(
        '[problem]\nkind = "simulation"\ncontrol = "model/model.pst"\n[scheme]\nname = "differences"\n'
        "[workers]\ncount = 2\n[stop]\nupdates = 50\n"
    )
    return path


def test_a_control_file_is_a_job(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = pdcode.simulate(str(job), output=job.parent / "a.h5", progress=False)
    np.testing.assert_allclose(trace.theta, [3, math.log10(0.7), 0.05], atol=1e-5)
    fit = trace.fit()
    assert fit.names == ["height", "log10 rate", "floor"]
    assert fit.residuals.shape == (9,)  # one has weight 0
    assert trace.config["problem"]["bounds"] == [[0.1, 10.0], [-2.0, math.log10(9)], [-5.0, 5.0]]
    point = trace.evaluations["number"][trace.evaluations["what"] == 0].reshape(-1, 3)
    steps = np.abs(point[1:4] - point[0]).max(axis=0)
    np.testing.assert_allclose(steps, [0.01, math.log10(1.01), 1e-4])  # increments of the file
    assert {each.name for each in (job.parent / "model").iterdir()} == {  # runs are in copies
        "model.py", "model.tpl", "model.ins", "model.pst",
    }  # fmt: skip
    for each in (job.parent / "model").iterdir():
        each.unlink()
    assert main(["show", str(trace.path), "--quick"]) == 0
    assert "log10 rate" in capsys.readouterr().out


def test_workers_have_folders_of_their_own(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = pdcode.run(str(job), output=job.parent / "a.h5", progress=False)
    np.testing.assert_allclose(trace.theta, [3, math.log10(0.7), 0.05], atol=1e-5)
    assert not np.isnan(trace.arrivals["loss"]).any()
    assert_replays(trace.path, capsys)


def test_residuals_are_weighted(job: Path) -> None:
    control = read_control(str(job.parent / "model" / "model.pst"))
    found = Pest(control)(np.array([3.0, math.log10(0.7), 0.06]))
    np.testing.assert_allclose(found, np.full(9, 2.0 * 10.0 * 0.01), atol=1e-5)  # weight × scale × change


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("model.pst", "pcf", "pdf", "model.pst, line 1: expected pcf"),
        ("model.pst", "pcf", "pcf version=2", "line 1: files of version 2"),
        ("model.pst", "4 10 2", "5 10 2", "line 4: 5 parameters, and 4 follow"),
        ("model.pst", "4 10 2", "4 11 2", "line 4: 11 observations, and 10 follow"),
        ("model.pst", "1 1 single", "2 1 single", "3 files, and 2 follow"),
        ("model.pst", "rate   log", "rate   tied", "line 14: transform 'tied': expected none, log or fixed"),
        ("model.pst", "0.2 0.01 9.0", "0.2 0.0 9.0", "line 14: bound 0: a parameter with transform log"),
        ("model.pst", "0.2 0.01 9.0", "20 0.01 9.0", "line 14: 20 is not between bounds 0.01 and 9"),
        ("model.pst", "0.2 0.01 9.0", "much 0.01 9.0", "line 14: 'much' is no number"),
        ("model.pst", "-5 5 flo", "-5 5 flow", "line 15: group 'flow'"),
        ("model.pst", "flo absolute", "flo rel_to_max", "line 11: increment 'rel_to_max'"),
        ("model.pst", "O3 ", "O2 ", "line 23: observation 'o2' twice"),
        ("model.pst", "* prior information", "* prior information\npi1 1 * height = 1 1 obs", "'* prior inf"),
        ("model.pst", "* model command line", "* model command line\nls", "a second command, of which"),
        ("model.pst", "* parameter groups", "* other groups", "the file ends without '* parameter groups'"),
        ("model.tpl", "ptf #", "ptf", "model.tpl, line 1: expected ptf and a marker"),
        ("model.tpl", "#rate  ", "#ratio ", "model.tpl, line 3: parameter 'ratio', which the control file"),
        ("model.tpl", "= #floor#", "= #floor", "model.tpl, line 4: an odd number of #"),
        ("model.tpl", "#floor#", "0", "model.pst: parameter 'floor', which no template has"),
        ("model.ins", "@value:@ !o3!", "value !o3!", "model.ins, line 7: 'value' is no instruction"),
        ("model.ins", "l1 @value:@ !o3!", "@value:@ !o2!", "model.ins, line 7: observation 'o2' twice"),
        ("model.ins", "l1 @value:@ !o3!", "w !o3!", "model.ins, line 7: a line begins with a marker"),
        ("model.ins", "!o3!", "!dum!", "model.pst: observation 'o3', which no instructions read"),
        ("model.ins", "@RESULTS@", "@RESULT:@", "line 2: line 12 of the output has not 'RESULT:'"),
        ("model.ins", "!o3!", "w w !o3!", "line 7: line 6 of the output has not a number for 'o3'"),
        ("model.ins", "& (o9)22:30", "& [o9]12:30", "a number for 'o9', but 'value:"),
    ],
)  # fmt: skip
def test_errors_name_file_and_line(
    file: str, old: str, new: str, words: str, job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = job.parent / "model" / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    assert main(["simulate", str(job), "-o", str(job.parent / "a.h5")]) == 2
    assert words in error_line(capsys)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("problem.control=nowhere.pst", "problem.control: "),
        ("problem.start=[1.0]", "problem.start: has no effect with problem.control"),
        ("problem.command=ls", "problem.function: give this, or problem.command, or problem.control"),
        ("problem.select=y", "problem.select: has no effect without problem.command"),
    ],
)
def test_keys_that_the_file_gives_are_refused(setting: str, words: str, job: Path, capsys) -> None:
    assert main(["simulate", str(job), "-o", str(job.parent / "a.h5"), "--set", setting]) == 2
    assert words in error_line(capsys)


@pytest.mark.parametrize(
    ("instructions", "output", "found"),
    [
        ("l1 !a! !b!", "1.5 -2D3", {"a": 1.5, "b": -2000}),
        ("l2 !dum! !a!", "x\n1 2", {"a": 2}),
        ("l1 w !a!", "1 2 3", {"a": 2}),
        ("l1 w w !a!", "   1 2 3", {"a": 2}),
        ("l1 t5 !a!", "1234567", {"a": 567}),
        ("l1 [a]2:4 [b]5:6", "1234567", {"a": 234, "b": 56}),
        ("l1 (a)4:5 (b)9:9", "1 12345 678", {"a": 12345, "b": 678}),
        ("@x = @ !a! @, y = @ !b!", "none\nx = 1, y = 2", {"a": 1, "b": 2}),
        ("@t@ @v:@ !a!\nl1 @v:@ !b!", "t=0 v: 1\nt=1 v: 2", {"a": 1, "b": 2}),
        ("@t,@ @f@\nl1 w !a! w !b!", "t, then\nt, f\n1.0, 2.0, 3.0", {"a": 2, "b": 3}),
        ("@x@\n@x@ !a!\n@x@\n& !b!", "x 1\nx 2\nx 3", {"a": 2, "b": 3}),
    ],
)
def test_instructions_find_numbers(instructions: str, output: str, found: dict, tmp_path: Path) -> None:
    path = tmp_path / "a.ins"
    path.write_text(f"pif @\n{instructions}\n", encoding="utf-8")
    assert Instructions(path).read(output) == found


@pytest.mark.parametrize(
    ("output", "words"),
    [("x", "a number for 'a', but 'x'"), ("", "a further line"), (" ", "a number for 'a'")],
)
def test_an_output_without_a_number_names_both_lines(output: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "a.ins"
    path.write_text("pif @\n\nl1 !a!\n", encoding="utf-8")
    with pytest.raises(RuntimeError, match=re.escape("a.ins, line 3: line ")) as caught:
        Instructions(path).read(output)
    assert words in str(caught.value)


@pytest.mark.parametrize("width", [8, 12, 23])
@pytest.mark.parametrize("value", [1 / 3, -2 / 3e7, 123456789.0, 1.0, -1e-300, 0.0])
def test_numbers_have_the_width_of_their_space(width: int, value: float) -> None:
    text = written(value, width)
    assert len(text) == width
    assert "." in text
    assert float(text) == pytest.approx(value, rel=0.1 if width == 8 else 1e-4 if width == 12 else 1e-13)


def test_a_number_without_space_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="does not fit into 4 characters"):
        written(-1e-30, 4)
