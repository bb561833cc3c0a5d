"""A short slice of the fuzzing of files, and those that failed once; `make fuzz` runs any number of cases."""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import fuzz  # noqa: E402
from grids import LONG  # noqa: E402
from kinds import KINDS  # noqa: E402

pytestmark = pytest.mark.slow
COUNT = 40
FEW = {"plans": 3}  # whose commands take seconds


@pytest.mark.every(4)
@pytest.mark.parametrize("name", KINDS)
def test_damaged_files_end_in_one_line(name: str) -> None:
    count = COUNT if KINDS[name].every > 1 else COUNT // 3
    count = count if LONG else FEW.get(name, count)
    with fuzz.scratch() as folder:
        fuzzer = fuzz.Fuzzer(name, folder)
        results = list(fuzzer.fuzz(range(1, count + 1)))
        results += [fuzzer.again(kept) for kept in (HERE / "findings").glob(f"{name}.*")]
    assert [result for result in results if result.problem] == []
    assert sum(bool(result.text) for result in results) > count // 5


def test_what_is_wrong_with_a_command_is_told() -> None:
    line, lines = "pdcode: a.h5: damaged", "pdcode: a.h5: damaged\nmore"
    passed = [("show", 2, 0, line), ("show", 0, 0, ""), ("replay", 1, 0, "")]
    failed = [
        ("show", 1, 0, line), ("show", 2, 0, lines), ("show", 0, 0, line), ("show", 1, 0, ""),
        ("read", 1, 0, "Traceback …\nKeyError"), ("show", 2, 2**30, line),
    ]  # fmt: skip
    assert [fuzz.judge(*each) for each in passed] == ["", "", ""]
    assert all(fuzz.judge(*each) for each in failed)


def test_a_crash_and_a_hang_are_the_cases_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(source: object, path: Path) -> None:
        if path.parent.name == "3":
            fuzz.os.abort()
        if path.parent.name == "5":
            fuzz.time.sleep(100)

    monkeypatch.setattr(fuzz, "HANG_S", 1)
    kind = KINDS["tables"]._replace(read=read, commands=lambda *_: [])
    monkeypatch.setitem(fuzz.KINDS, "tables", kind)
    with fuzz.scratch() as folder:
        results = list(fuzz.Fuzzer("tables", folder).fuzz(range(1, 8)))
    assert [result.case for result in results] == [*range(1, 8)]
    assert [result.case for result in results if result.step != "read"] == [3, 5]
