"""Writing of files: whole, or not at all."""

import errno
from pathlib import Path

import pytest

from pdcode.util.errors import InputError
from pdcode.util.output import write_file


def test_a_file_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, link, write = tmp_path / "new" / "a.txt", tmp_path / "link", Path.write_bytes
    write_file(path, "one", "it")
    link.symlink_to(path)
    write_file(link, b"two", "it")
    assert (path.read_text(), link.is_symlink()) == ("two", True)

    def half(place: Path, content: bytes) -> None:
        write(place, content[:1])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(InputError, match=r"a\.txt: cannot write it: No space left on device"):
        write_file(path, "three", "it")
    with pytest.raises(InputError, match=r"b\.txt: cannot write it: No space left on device"):
        write_file(path.with_name("b.txt"), "three", "it")
    assert [each.read_text() for each in path.parent.iterdir()] == ["two"]
