"""`pdcode codes list | design | show`: what is printed, written and refused, with which exit code."""

import numpy as np
import pytest
import traces
from outcomes import error_line, png_size
from pdcode_packings import search

from pdcode import codes
from pdcode.__main__ import main
from pdcode.analysis import code_plots, style
from pdcode.codes import FAMILIES, catalogue
from pdcode.util import progress

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("read_at_once")]


def test_every_family_is_listed(capsys):
    assert main(["codes", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines if line and not line.startswith(" ")} >= {*FAMILIES, "auto"}
    assert not any(line.endswith(" ") for line in lines)
    text = " ".join(" ".join(lines).split())
    assert "(16,6,3) 1/3" in text
    assert "(6,3,2) 0.4472" in text


def test_the_catalogue_is_verified(capsys, monkeypatch):
    entries = [entry for entry in catalogue.ENTRIES if entry.workers <= 300]
    monkeypatch.setattr(catalogue, "ENTRIES", entries)
    assert main(["codes", "list", "--verify"]) == 0
    text = capsys.readouterr().out
    assert "All as claimed." in text
    assert text.count("holds") == len(entries)
    wrong = catalogue.CatalogueEntry("net", 32, 16, 4, {}, 0.25 + 1e-9, True)
    slack = catalogue.CatalogueEntry("random", 32, 16, 4, {}, None, True)
    monkeypatch.setattr(catalogue, "ENTRIES", [entries[0], wrong, slack])
    assert main(["codes", "list", "--verify"]) == 1
    text = capsys.readouterr().out
    assert text.count("WRONG") == 2
    assert "2 wrong" in text


def test_a_code_is_designed_saved_and_shown(tmp_path, capsys):
    path = tmp_path / "code.h5"
    command = ["codes", "design", "net", "-n", "32", "-k", "16", "-w", "4", "--seed", "5"]
    assert main([*command, "--option", "dither=false", "-o", str(path)]) == 0
    designed = capsys.readouterr().out
    for text in (
        "net: 32 rows over 16 blocks, weight 4, seed 5", "0.25", "weight-flat", "reached", "tightness 1",
        "spark", "worst pair", "dither = False", "least squares", f"code: {path}",
    ):  # fmt: skip
        assert text in designed
    code = codes.Code.load(path)
    again = codes.design("net", 32, 16, 4, seed=5, dither=False)
    np.testing.assert_array_equal(code.matrix, again.matrix)
    assert main(["codes", "show", str(path), "--figure", str(tmp_path / "new" / "code.png")]) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[:-1] == designed.splitlines()[2:]
    assert png_size(tmp_path / "new" / "code.png") == (3000, 1120)


def test_a_search_shows_its_progress(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv(progress.VARIABLE)
    monkeypatch.setattr(progress, "LINE_S", 0)
    command = ["codes", "design", "optimized", "-n", "5", "-k", "3", "--option", "restarts=4"]
    assert main([*command, "-o", str(tmp_path / "code.h5")]) == 0
    said = capsys.readouterr()
    assert "pdcode: coherence 0." in said.err
    assert ": 4 of 4, about 0 s left\n" in said.err
    assert "0.447" in said.out
    assert codes.Code.load(tmp_path / "code.h5").options == {"restarts": 4}


def test_an_interrupted_search_is_one_line(tmp_path, capsys, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(search, "restart", interrupted)
    state = tmp_path / "state.npz"
    arguments = ["codes", "design", "optimized", "-n", "9", "-k", "4", "--option", f"state={state}"]
    assert main(arguments) == 1
    assert capsys.readouterr().err == f"pdcode: interrupted; the same command resumes from {state}\n"
    assert state.exists()


def test_notes_and_what_is_never_reached_are_said(capsys):
    assert main(["codes", "design", "net", "-n", "20", "-k", "16"]) == 0
    assert "the last round is incomplete" in " ".join(capsys.readouterr().out.split())
    assert main(["codes", "design", "uncoded", "-n", "3", "-k", "4"]) == 0
    text = capsys.readouterr().out
    assert "all: not reached" in text
    assert "all 3 rows are independent" in text


def test_the_codes_of_a_trace_are_shown(tmp_path, capsys):
    trace = traces.simulate(tmp_path / "trace.h5", seconds=0.1)
    assert main(["codes", "show", str(tmp_path / "trace.h5"), "--figure", str(tmp_path / "a.png")]) == 0
    text = capsys.readouterr().out
    assert text.count("rows over") == len(trace.code)
    assert png_size(tmp_path / "a.png") == (3000, 1120 * len(trace.code))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["design", "magic", "-n", "4", "-k", "4"], "(got 'magic')"),
        (
            ["design", "net", "-n", "4", "-k", "4", "--option", "dither"],
            "--option dither: expected KEY=VALUE",
        ),
        (["design", "net", "-n", "4", "-k", "4", "--option", "colour=red"], "colour = 'red': not an option"),
        (["design", "net", "-n", "8", "-k", "4", "--option", "seed=1"], "--option seed: not an option of a"),
        (["design", "repetition", "-n", "5", "-k", "4"], "nearest: workers = 4, blocks = 4"),
        (["show", "nothing.h5"], "nothing.h5: no such file"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, capsys):
    assert main(["codes", *arguments]) == 2
    assert message in error_line(capsys)


def test_arguments_that_are_missing_are_exit_code_2():
    for arguments in (["codes"], ["codes", "design", "net"], ["bench", "everything"]):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2


def test_options_are_read_as_toml_or_as_text(capsys):
    command = ["codes", "design", "energy", "-n", "8", "-k", "4", "-w", "2", "--option", "exponent=1"]
    assert main([*command, "--option", "energies=[1, 0.5, 0.2, 0.1]"]) == 0
    assert "exponent = 1" in capsys.readouterr().out
    assert main(["codes", "design", "random", "-n", "8", "-k", "4", "--option", "entries=gaussian"]) == 0
    assert "entries = gaussian" in capsys.readouterr().out


@pytest.mark.every(3)
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "arguments",
    [
        ("net", 10_000, 1000, 8), ("pairs", 300, 150), ("kerdock", 144, 16), ("uncoded", 1, 1),
        ("repetition", 4, 1),
    ],
)  # fmt: skip
def test_figures_of_codes_of_any_size(arguments, tmp_path):
    code = codes.design(*arguments)
    found = codes.quality(code) if len(code) < 1000 else codes.quality(codes.design("net", 32, 16, 4))
    style.save(code_plots.draw([(code, found)]), tmp_path / "a.png")
    assert png_size(tmp_path / "a.png") == (3000, 1120)


def test_blocks_that_share_a_column_keep_their_entries():
    pooled = code_plots._pooled(codes.design("net", 1000, 1000, 8).matrix[:10])
    assert pooled.shape == (10, 250)
    assert (np.count_nonzero(pooled, axis=1) == 8).all()
