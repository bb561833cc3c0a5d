"""Files that are whole or not there."""

import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdcode.util import checked
from pdcode.util.errors import InputError


class Title(msgspec.Struct):
    name: str
    numbers: list[int]
    state: Any = None


ARRAYS = {"none": np.zeros((0, 3)), "one": {7: [np.arange(3, dtype=np.int32)]}, "many": np.ones((9, 99)).T}
TITLE = Title("a run", [1, 2], ARRAYS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("checked") / "file"
    checked.write(path, TITLE)
    assert repr(checked.read(path, Title)) == repr(TITLE)
    assert checked.read(path, Title, arrays=False).numbers == TITLE.numbers
    return path.read_bytes()


@given(data=st.data())
def test_a_file_that_is_not_what_was_written_is_refused(whole, tmp_path_factory, data):
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = data.draw(st.sampled_from(["cut", "flip", "more", "other", "version"]))
    content = {
        "cut": whole[:at],
        "flip": whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :],
        "more": whole + b"0",
        "other": os.urandom(at),
        "version": whole.replace(checked.MAGIC, checked.FORMAT + b"1"),
    }[changed]
    path = tmp_path_factory.mktemp("changed") / "file"
    path.write_bytes(content)
    with pytest.raises(InputError, match=str(path)):
        checked.read(path, Title)


def test_two_generations_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for number in range(3):
        checked.write(path, Title("a run", [number]))
    assert checked.read(path, Title).numbers == [2]
    assert checked.read(checked.older(path), Title).numbers == [1]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "file.older"]


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_what_was_there_stays_if_writing_fails(tmp_path, monkeypatch, call):
    path = tmp_path / "file"
    checked.write(path, TITLE)

    def fails(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fails)
        with pytest.raises(OSError, match="No space"):
            checked.write(path, Title("another", []))
    assert repr(checked.read(path, Title)) == repr(TITLE)
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
