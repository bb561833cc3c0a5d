"""Plug-ins that a trace names: programs of whoever wrote the trace, unless the user says otherwise."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import pytest
from outcomes import error_line

from pdcode import simulate
from pdcode.__main__ import main
from pdcode.config.legacy import plugin_digest
from pdcode.trace.reader import TraceReader
from pdcode.util.errors import InputError
from pdcode.util.files import writable_by_others

JOB = """
problem = {kind = "least-squares", data = "synthetic", samples = 20, features = 4}
code = {blocks = 4, weight = 2}
workers = {count = 2}
stragglers = {kind = "shifted-exponential", shift_s = 0.001, mean_s = 0.001}
stop = {updates = 6}
"""


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trace of a run without plug-ins."""
    folder = tmp_path_factory.mktemp("plain")
    (folder / "job.toml").write_text(JOB)
    assert main(["simulate", str(folder / "job.toml"), "-o", str(folder / "a.h5")]) == 0
    return folder / "a.h5"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other users can enter, unlike those of pytest."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        os.chmod(name, 0o755)
        yield Path(name).resolve()


def named(trace: Path, folder: Path, plugin: str, digest: str | None) -> str:
    """Copy a trace, and have it name a plug-in."""
    path = folder / "a.h5"
    shutil.copy(trace, path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["config_resolved"])
        file.attrs["config_resolved"] = json.dumps(config | {"plugins": [plugin]})
        if digest is not None:
            file.attrs["plugin_digests"] = [digest]
    return str(path)


def plugin(folder: Path) -> Path:
    """Write a plug-in that leaves a mark when it is imported."""
    path = folder / "mine.py"
    path.write_text(f"open({str(folder / 'mark')!r}, 'w')\n")
    path.chmod(0o644)
    return path


def commands(path: str, folder: Path) -> dict[str, list[str]]:
    (job := folder / "job.toml").write_text(JOB)
    simulated, size = (
        ["simulate", str(job), "-o", str(folder / "out.h5")],
        ["--candidates", "2", "--seeds", "1"],
    )
    return {
        "replay": ["replay", path],
        "stragglers": [*simulated, "--stragglers", path],
        "cost": [*simulated, "--cost", path],
        "plan": [
            "plan",
            str(job),
            "--trace",
            path,
            *size,
            "--processes",
            "1",
            "-o",
            str(folder / "out.toml"),
        ],
    }


@pytest.mark.usefixtures("read_at_once")
@pytest.mark.parametrize("command", ["replay", "stragglers", "cost", "plan"])
@pytest.mark.parametrize(
    ("mode", "place", "digest", "why"),
    [
        (0o644, 0o755, None, "no digest of it is recorded"),
        (0o644, 0o755, "0" * 64, "it differs from the plug-in of the run"),
        (0o646, 0o755, "", "mine.py can be written by others"),
        (0o664, 0o755, "", "mine.py can be written by others"),
        (0o644, 0o777, "", "can be written by others"),
    ],
)
def test_a_plugin_of_anybodys_is_not_imported(trace, folder, capsys, command, mode, place, digest, why):
    path = plugin(folder)
    words = commands(
        named(trace, folder, str(path), plugin_digest(str(path)) if digest == "" else digest), folder
    )
    path.chmod(mode)
    folder.chmod(place)
    assert main(words[command]) == 2
    line = error_line(capsys)
    assert why in line
    assert "--plugin" in line
    assert not (folder / "mark").exists()


@pytest.mark.usefixtures("read_at_once")
def test_nor_one_of_the_current_folder(trace, folder, capsys, monkeypatch):
    path = plugin(folder)
    monkeypatch.chdir(folder)
    assert main(["replay", named(trace, folder, "mine.py", plugin_digest(str(path)))]) == 2
    assert "its path is relative" in error_line(capsys)
    assert not (folder / "mark").exists()


@pytest.mark.usefixtures("read_at_once")
@pytest.mark.parametrize("way", ["own", "replay", "stragglers", "python"])
def test_a_plugin_is_imported_if_it_is_the_users_or_named(trace, folder, capsys, way):
    path = plugin(folder)
    where = named(trace, folder, str(path), plugin_digest(str(path)) if way == "own" else None)
    words, key = commands(where, folder), f"plugins=[{str(path)!r}]"
    if way == "python":
        with pytest.raises(InputError, match="no digest of it is recorded"):
            simulate(TraceReader(where), output=folder / "out.h5")
        simulate(TraceReader(where), set={"plugins": [str(path)]}, output=folder / "out.h5")
    elif way == "stragglers":
        assert main([*words["stragglers"], "--set", key]) == 0
    else:
        assert main([*words["replay"], *(["--plugin", str(path)] if way == "replay" else [])]) == 0
    assert (folder / "mark").exists()
    assert not (folder / "__pycache__").exists()


def test_who_could_have_written_a_file(folder, monkeypatch):
    path = plugin(folder)
    assert writable_by_others(path) == ""
    folder.chmod(0o1777)  # as /tmp, where others cannot replace one's files
    assert writable_by_others(path) == ""
    folder.chmod(0o777)
    assert writable_by_others(path) == f"{folder} can be written by others"
    path.chmod(0o666)
    folder.chmod(0o700)  # nobody else gets to it
    assert writable_by_others(path) == ""
    folder.chmod(0o755)
    (folder / "link").symlink_to(path)
    assert writable_by_others(folder / "link") == f"{path} can be written by others"
    path.chmod(0o644)
    os.chown(path, os.geteuid(), -1)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    if path.stat().st_uid:  # the files of root are trusted by all
        assert writable_by_others(path) == f"{folder} belongs to another user"


def test_a_run_records_the_digests_of_its_plugins(folder):
    path = plugin(folder)
    (folder / "job.toml").write_text(f"plugins = ['mine.py']\n{JOB}")
    assert main(["simulate", str(folder / "job.toml"), "-o", str(folder / "b.h5")]) == 0
    assert TraceReader(folder / "b.h5").plugin_digests == [plugin_digest(str(path))]
