"""Shared memory that killed jobs leave: the next one removes it, and nothing else."""

import fcntl
import os
import re
from pathlib import Path

import pytest

from pdcode.mpi import segments


def job(folder: Path, name: str, ranks: int = 3) -> list[Path]:
    files = [folder / f"sm_segment.{name}.{rank}" for rank in range(ranks)]
    for file in files:
        file.write_bytes(bytes(16))
    return files


def names(folder: Path) -> set[str]:
    return {each.name for each in folder.iterdir()}


def test_files_of_dead_jobs_of_ours_alone_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "FOLDER", tmp_path)
    _, *others = job(tmp_path, "host.0.1a"), *job(tmp_path, "host.0.1ab"), *job(tmp_path, "host.0.2b")
    (tmp_path / "pdcode.sm_segment.host.0.1a").touch()  # its job is dead
    alive = tmp_path / "pdcode.sm_segment.host.0.2b"
    descriptor = os.open(alive, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    victim = tmp_path / "victim"
    victim.write_text("mine")
    links = tmp_path / "pdcode.sm_segment.host.0.3c", tmp_path / "sm_segment.host.0.1a.9"
    for link in links:
        link.symlink_to(victim)
    segments.remove_dead()
    kept = {each.name for each in (*others, alive, victim, *links)}
    assert names(tmp_path) - {"pdcode.sm_segment.host.0.1a"} == kept
    os.close(descriptor)
    links[1].unlink()
    segments.remove_dead()
    assert names(tmp_path) == {
        *(f"sm_segment.host.0.1ab.{rank}" for rank in range(3)),
        "victim",
        links[0].name,
    }
    assert victim.read_text() == "mine"


def test_a_job_that_goes_on_keeps_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = []
    monkeypatch.setattr(segments, "FOLDER", tmp_path)
    monkeypatch.setattr(segments.atexit, "register", lambda end, **given: ends.append((end, given)))
    files = job(tmp_path, "host.0.5e")
    segments._mark("sm_segment.host.0.5e")
    segments.mark_job({"OMPI_COMM_WORLD_LOCAL_RANK": "1"})  # another rank of the host
    monkeypatch.setattr(segments, "NAME", re.compile("none"))  # this process may have such files
    segments.mark_job({"OMPI_COMM_WORLD_LOCAL_RANK": "0"})  # of another job, without them
    assert names(tmp_path) == {*(each.name for each in files), "pdcode.sm_segment.host.0.5e"}
    ((end, given),) = ends
    end(**given)
    assert names(tmp_path) == {each.name for each in files}
