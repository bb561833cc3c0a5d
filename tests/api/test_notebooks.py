"""What notebooks display: tables of escaped text, without escape codes, and once."""

import builtins
import re
from pathlib import Path

import pytest

import pdcode
from pdcode.analysis import printing
from pdcode.util import html

EVIL = "<i>&\x1b[1m"


@pytest.fixture
def trace(tmp_path: Path) -> pdcode.Trace:
    job = {
        "problem": {"kind": "softmax", "data": "digits"},
        "workers": {"count": 4},
        "update": {"mode": "all"},
        "stragglers": {
            "kind": "shifted-exponential",
            "mean_s": 0.001,
            "shift_s": 0.005,
            "slow": [3],
            "slowdown": 8.0,
        },
        "stop": {"updates": 40},
    }
    return pdcode.simulate(job, output=tmp_path / "<i>&.h5", progress=False)


def rows(text: str) -> dict[str, str]:
    """The rows of a table of two columns."""
    cell = "<td style='text-align: left'>(.*?)</td>"
    return dict(re.findall(f"<tr>{cell}{cell}</tr>", text))


def test_results_are_tables(trace: pdcode.Trace) -> None:
    shown = trace._repr_html_()
    assert "/&lt;i&gt;&amp;.h5: finished after " in shown
    assert "<i>" not in shown
    judged = rows(shown)
    assert re.match(
        r"(critical: )?worker 3 is .* as slow as the others .*; all wait for it$", judged["verdict"]
    )
    assert judged["workers"] == "4 workers, virtual"
    found = trace.diagnose()
    assert list(rows(found._repr_html_())) == [name for name, _ in found.lines()]
    assert repr(found).startswith(f"verdict: {found.verdict}\nwhy: ")
    model = rows(trace.model()._repr_html_())
    assert model["targets"] == "10 classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"
    assert (model["inputs"], model["parameters"], model["score"]) == ("64", "650", "accuracy")
    code = pdcode.codes.design("net", workers=32, blocks=16, weight=4)
    assert rows(code._repr_html_())["coherence"] == f"{code.coherence:.3g}"


def test_text_is_escaped() -> None:
    table = printing.make_table("name", EVIL, left=("name",))
    table.add_row(EVIL, EVIL)
    for shown in (
        printing.to_html([(EVIL, [table, EVIL, printing.note(EVIL)])]),
        html.named(EVIL, {EVIL: EVIL}),
    ):
        assert "\x1b" not in shown
        assert "<i>" not in shown
        assert shown.count("&lt;i&gt;&amp;") >= 3


def test_a_table_that_is_printed_in_a_notebook_is_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setattr(builtins, "get_ipython", lambda: shell, raising=False)
    table = printing.make_table("name", "value", left=("name",))
    table.add_row("loss", "0.1")
    printing.show([("Title", [table])])
    assert capsys.readouterr().out == "Title\n  name  value\n  loss    0.1\n\n"
