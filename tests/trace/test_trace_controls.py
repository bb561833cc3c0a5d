"""Control characters in the texts of a trace or comparison, by which a terminal could be made to lie."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from grids import LONG

from pdcode.__main__ import main

JOB = """
problem = {kind = "least-squares", data = "synthetic", samples = 20, features = 4}
code = {blocks = 4, weight = 2}
workers = {count = 2}
stragglers = {kind = "shifted-exponential", shift_s = 0.001, mean_s = 0.001}
stop = {updates = 6}
trace = {progress_s = 1e-3}
faults = {events = [{kind = "nan", worker = 1, task = 1}]}
"""
HOSTILE = "\x1b]0;x\x07\x1b[31m\x9b2J\r\x08\x7f\u202e\u2028"
FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u2028]")

Change = Callable[[h5py.File], None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small trace that has faults, a comparison, and their configuration."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "job.toml").write_text(JOB)
    job = str(folder / "job.toml")
    assert main(["simulate", job, "-o", str(folder / "a.h5")]) == 0
    compared = ["compare", job, "--schemes", "yours", "--seeds", "1", "--processes", "1"]
    assert main([*compared, "-o", str(folder / "c.h5")]) == 0
    return folder


def changes(file: h5py.File) -> Iterator[tuple[str, Change]]:
    """Yield a change for each text of a file: attributes, keys and values of JSON, elements of columns."""
    places = [file]
    file.visititems(lambda _, place: places.append(place) or None)  # type: ignore[func-returns-value]
    for place in places:
        for key in place.attrs:
            value, what = place.attrs[key], f"{place.name} {key}"
            if isinstance(value, str) and value.startswith(("{", "[")):
                yield from of_json(place.name, key, json.loads(value))
            elif isinstance(value, str) and key not in ("units", "description", "NAME", "CLASS"):
                yield what, set_attribute(place.name, key, f"{value}{HOSTILE}{value}")
            elif isinstance(value, np.ndarray) and value.dtype.kind == "O" and isinstance(value[0], str):
                yield what, set_attribute(place.name, key, [f"{each}{HOSTILE}" for each in value])
        if isinstance(place, h5py.Dataset) and place.dtype.kind in "SO" and len(place):
            yield place.name, set_elements(place.name)


def set_attribute(place: str, key: str, value: Any) -> Change:
    return lambda file: file[place].attrs.__setitem__(key, value)


def set_elements(place: str) -> Change:
    """A change of the first element of a column."""
    return lambda file: file[place].__setitem__(0, HOSTILE.encode())


def of_json(place: str, key: str, tree: Any) -> Iterator[tuple[str, Change]]:
    """Yield a change for each value in JSON that is a text, and for a key now and then."""
    text = json.dumps(tree)
    texts = list(re.finditer(r'"((?:[^"\\]|\\.)*)"(:?)', text))
    for found in [each for number, each in enumerate(texts) if not (each[2] and number % 8)]:
        changed = text[: found.end(1)] + json.dumps(HOSTILE)[1:-1] + text[found.end(1) :]
        yield f"{place} {key} {found[1]} at {found.start()}", set_attribute(place, key, changed)


def printed(capsys: pytest.CaptureFixture[str], *commands: list[str]) -> str:
    """Return all that commands print; they may refuse their input."""
    for words in commands:
        assert main(words) in (0, 1, 2)
    captured = capsys.readouterr()
    return str(captured.out + captured.err)


def broken(folder: Path, name: str, change: Change) -> str:
    shutil.copy(folder / name, folder / f"changed-{name}")
    with h5py.File(folder / f"changed-{name}", "r+") as file:
        change(file)
    return str(folder / f"changed-{name}")


@pytest.mark.usefixtures("read_at_once")
@pytest.mark.parametrize("name", ["a.h5", "c.h5"])
def test_no_text_of_a_file_reaches_the_terminal_raw(folder, capsys, name):
    with h5py.File(folder / name) as file:
        found = dict(changes(file))
    assert len(found) > {"a.h5": 30, "c.h5": 8}[name]
    escaped = 0
    for what, change in list(found.items())[:: 1 if LONG else 4]:
        path = broken(folder, name, change)
        output = printed(capsys, ["show", path])
        assert not FORBIDDEN.search(output), what
        escaped += r"\x1b]0;x\x07\x1b[31m\x9b2J\r\x08\x7f\u202e\u2028" in output
    assert escaped > {"a.h5": 5, "c.h5": 0}[name]


@pytest.mark.usefixtures("read_at_once")
def test_nor_by_other_commands(folder, capsys):
    """All texts at once that do not stop a trace from being read, and one that does."""
    with h5py.File(folder / "a.h5") as file:
        found = dict(changes(file))
    harmless = [f"/ {key}" for key in ("created", "creator", "git_commit", "mpi_library")]
    chosen = [found[key] for key in (*harmless, "/workers/host", "/faults/kind", "/faults/message")]
    job, out = str(folder / "job.toml"), ["-o", str(folder / "out.h5")]
    size = ["--candidates", "1", "--seeds", "1", "--processes", "1"]
    for part in ([], [next(found[key] for key in found if " synthetic at " in key)]):
        path = broken(folder, "a.h5", lambda file, part=part: [each(file) for each in chosen + part])
        output = printed(
            capsys,
            ["show", path], ["show", path, path], ["replay", path], ["codes", "show", path],
            ["simulate", job, "--stragglers", path, *out], ["simulate", job, "--cost", path, *out],
            ["plan", job, "--trace", path, *size, "-o", str(folder / "out.toml")],
        )  # fmt: skip
        assert not FORBIDDEN.search(output)
        assert r"\x1b[31m" in output


@pytest.mark.usefixtures("read_at_once")
def test_nor_is_a_name_taken_for_a_formula_in_a_figure(folder, capsys, recwarn):
    names = [str(folder / name) for name in ("a$\\frac$.h5", "b\x1b[31m.h5")]
    for name in names:
        shutil.copy(folder / "a.h5", name)
    assert main(["show", *names, "--figure", str(folder / "a.svg")]) == 0
    assert not FORBIDDEN.search(capsys.readouterr().out)
    assert not recwarn.list


def test_a_message_has_no_line_of_a_files_own(folder, capsys):
    """A newline could imitate a line of pdcode."""
    path = broken(folder, "a.h5", set_attribute("/", "created", "now\npdcode: all is well"))
    assert "now\\npdcode: all is well" in printed(capsys, ["show", path])
