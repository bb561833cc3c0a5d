"""code.path: runs with a code from a file, and their traces, which hold it."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from outcomes import assert_replays

from pdcode import Trace, codes
from pdcode.__main__ import main
from pdcode.config import load as configfile
from pdcode.util.errors import InputError

JOB = """
[problem]
kind = "mlp"
data = "digits"
hidden = [64]
batch = 8
[workers]
count = 3
[stop]
updates = 8
[trace]
path = "t.h5"
"""
TABLE = '[code]\npath = "net.h5"\nblocks = [0, 1]\nrows_per_task = 2\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with another that holds a job and its code."""
    (tmp_path / "jobs").mkdir()
    codes.design("net", 64, 32, 4, seed=3).save(tmp_path / "jobs" / "net.h5")
    (tmp_path / "jobs" / "job.toml").write_text(JOB + TABLE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_uses_the_code_of_a_file_and_its_trace_needs_none(folder, capsys):
    """The path is relative to the file that names it; layers sent whole stay whole."""
    assert main(["simulate", "jobs/job.toml", "-o", "v.h5"]) == 0
    trace = Trace("v.h5")
    np.testing.assert_array_equal(trace.code[32], codes.design("net", 64, 32, 4, seed=3).matrix)
    assert trace.attributes["blocks"] == [32, 1]
    assert trace.code_attributes[32]["family"] == "net"
    (folder / "jobs" / "net.h5").unlink()
    capsys.readouterr()
    assert_replays("v.h5", capsys)
    assert main(["show", "v.h5"]) == 0
    assert "net with k = 32, weight 4" in capsys.readouterr().out
    assert main(["simulate", "jobs/job.toml", "--set", "code.path=v.h5", "--cost", "v.h5", "-o", "w.h5"]) == 0
    np.testing.assert_array_equal(Trace("w.h5").code[32], trace.code[32])
    assert main(["simulate", "jobs/job.toml", "-o", "w.h5"]) == 2
    assert f"code.path: {folder / 'jobs' / 'net.h5'}: no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("table", "sets", "blocks"),
    [
        ('[code]\nfamily = "net"\nblocks = [16, 1]\nweight = 2\noptions = {dither = false}\n', [], [32, 1]),
        ("[code]\nblocks = 16\n", [], 32),
        ("[code]\nblocks = 1\n", [], 1),
        ("", [], 32),
        ("", ["code.blocks=[1, 32]"], [1, 32]),
        ('[scheme]\npreset = "default"\n', [], "units"),
        ('[scheme]\npreset = "shards"\n', ["code.family=file", "code.blocks=0"], 32),
    ],
)
def test_a_path_on_the_command_line_replaces_the_family(folder, table, sets, blocks):
    shutil.move("jobs/net.h5", "net.h5")
    (folder / "jobs" / "job.toml").write_text(JOB + table)
    config, _ = configfile.load("jobs/job.toml", ["code.path=net.h5", *sets])
    assert (config.code.family, config.code.blocks) == ("file", blocks)
    assert config.code.path == str(folder / "net.h5")


def test_a_whole_table_with_a_path_replaces_the_family(folder: Path) -> None:
    shutil.move("jobs/net.h5", "net.h5")
    for table in ("", '[code]\nfamily = "net"\nweight = 2\n'):
        (folder / "jobs" / "job.toml").write_text(JOB + table)
        config, _ = configfile.load("jobs/job.toml", ["code={path='net.h5', blocks=[0, 1]}"])
        assert (config.code.family, config.code.blocks) == ("file", [32, 1])
        assert config.code.path == str(folder / "net.h5")


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["code.blocks=16"], "code.blocks: 16: the code in {net} is over 32 blocks"),
        (["code.blocks=units"], "code.blocks: 64: the code in {net} is over 32 blocks"),
        (["code.blocks=[0, 1, 1]"], "code.blocks: [32, 1, 1] has 3 entries, but there are 2 layers"),
        (["code.weight=4"], "code.weight: family 'file' has no such key (value 4)"),
        (
            ["code.rotate=false", "workers.count=33"],
            "{net} has 64 codewords, fewer than 33 workers × 2 a task",
        ),
        (["code.rows_per_task=33"], "code.rows_per_task: 33 codewords are more than the 32 blocks"),
        (["code.path=jobs"], "code.path: {folder}/jobs: a directory, not a file"),
        (["code.path=jobs/job.toml"], "code.path: {folder}/jobs/job.toml: "),
        (["code.path=long.h5"], "code.path: {folder}/long.h5: /: damaged: codeword 1 has norm 2, not 1"),
        (
            ["code.path=trace.h5"],
            "code.blocks: {folder}/trace.h5 has codes over 16 and 32 blocks; give the number",
        ),
        (["scheme.options={}", "scheme.name=topk"], ""),
    ],
)
def test_a_code_that_does_not_fit_is_refused_in_one_line(folder, sets, words, capsys):
    code = codes.design("uncoded", 4, 4)
    values = code.values.copy()
    values[1] = 2.0
    codes.Code(code.indices, values, 4, "uncoded").save("long.h5")
    with h5py.File("trace.h5", "w") as file:
        for k in (16, 32):
            codes.design("net", 2 * k, k, 4).save(file.create_group(f"code/{k}"))
    words = words.format(net=folder / "jobs" / "net.h5", folder=folder)
    arguments = [word for each in sets for word in ("--set", each)]
    assert main(["run", "jobs/job.toml", "--dry-run", *arguments]) == (2 if words else 0)
    errors = capsys.readouterr().err
    assert words in errors
    assert errors.count("\n") == bool(words)


def test_rows_of_a_code_that_does_not_rotate_are_those_of_the_file(folder: Path) -> None:
    assert main(["simulate", "jobs/job.toml", "--set", "code.rotate=false", "-o", "v.h5"]) == 0
    assert set(Trace("v.h5").arrivals["code_row"].tolist()) == {0, 2, 4}


def test_a_family_and_a_path_contradict_each_other(folder: Path) -> None:
    with pytest.raises(InputError, match=r"code\.path: family 'net' has no such key .*; 'file' has it"):
        configfile.resolve({"code": {"family": "net", "path": "net.h5"}}, [])
