"""Tables of settings: a row is what `--set` would be."""

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdcode.config import settings
from pdcode.util.errors import InputError

CELLS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8).map(str.strip)


@given(st.data())
def test_what_csv_writes_is_read(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    keys = data.draw(st.lists(CELLS.filter(bool), min_size=1, max_size=4, unique=True))
    rows = data.draw(
        st.lists(st.lists(CELLS, min_size=len(keys), max_size=len(keys)).filter(any), min_size=1)
    )
    path = tmp_path_factory.getbasetemp() / "table.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([keys, *rows])
    expected = [[f"{key}={cell}" for key, cell in zip(keys, row, strict=True) if cell] for row in rows]
    assert settings.read(path) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "an empty table"),
        ("seed,update.mode\n\n", "expected a line for each run"),
        ("seed,seed\n1,2\n", "line 1: 'seed': expected keys, each once"),
        ("seed,\n1,2\n", "line 1: '': expected keys"),
        ("seed,update.mode\n1,all\n\n2\n", "line 4: 1 cells for 2 keys"),
        ('seed\n"1\n', "line 2: not CSV: unexpected end of data"),
        ("seed\n\xff", "not UTF-8 text"),
    ],
)
def test_invalid_tables_are_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError) as refused:
        settings.read(path)
    assert str(refused.value).startswith(f"{path}: {words}")
