"""Plug-ins: the examples of docs/extending.md as they are, on the virtual clock and in a replay; bad ones."""

import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import extending
import numpy as np
import pytest
from outcomes import refused
from paths import ROOT
from shell import environment

from pdcode import Trace, simulate
from pdcode.__main__ import main
from pdcode.config import kinds
from pdcode.config import load as configfile
from pdcode.schemes import Scheme
from pdcode.session import setup
from pdcode.training.coordinator import Coordinator
from pdcode.training.fused import FusedCoordinator
from pdcode.util.errors import InputError

EXAMPLES = (
    "weibull", "diagonal", "adagrad", "deadline", "ring", "ternary", "ladder", "huber", "waves", "factors",
    "clipped",
)  # fmt: skip
SETS = ["stop.updates=120", "workers.count=4", "trace.progress_s=0.01", "optimizer.rate=0.1"]


COMMANDS = """
import json, sys
from pdcode.__main__ import main
for arguments in json.loads(sys.argv[1]):
    try:
        code = main(arguments)
    except SystemExit as end:
        code = end.code
    print(code, end="\\f")
"""


def pdcode(*commands: list[str], **extra: str) -> tuple[list[int], list[str], str]:
    """Exit codes and outputs of commands in one other process, and what they print on standard error."""
    words = [sys.executable, "-c", COMMANDS, json.dumps(commands)]
    done = subprocess.run(words, env=environment() | extra, capture_output=True, text=True, timeout=200)
    parts = [part.rpartition("\n") for part in done.stdout.split("\f")[:-1]]
    return [int(code) for *_, code in parts], [out for out, *_ in parts], done.stderr


def simulating(job: Path) -> list[str]:
    words = [word for each in SETS for word in ("--set", each)]
    return ["simulate", str(job), "-o", str(job.with_suffix(".h5")), *words]


def write(folder: Path, plugin: str, table: str = "", name: str = "mine.py") -> Path:
    """A plug-in, and a configuration that names it."""
    (folder / name).write_text(plugin, encoding="utf-8")
    job = folder / "job.toml"
    job.write_text(f'plugins = ["./{name}"]\n{table}', encoding="utf-8")
    return job


def test_all_examples_of_the_document_are_run_here(tmp_path: Path) -> None:
    assert tuple(extending.paste(tmp_path)) == EXAMPLES


def test_the_document_names_all_members_of_a_scheme() -> None:
    section = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8").partition("## A scheme")[2]
    members = {name for name in vars(Scheme) if not name.startswith("_")} - {"group"}
    assert members <= set(re.findall(r"`(\w+)", section))


class Example(NamedTuple):
    """An example's trace, what commands print of it, and what they say once its file is gone."""

    trace: Path
    codes: list[int]
    outs: list[str]
    gone: list[int]
    complaint: str


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Example]:
    """All examples in one process, and in another one, which has not read them, once their files are gone."""
    folder = tmp_path_factory.mktemp("examples")
    simulations, again = [], []
    for name, configuration in extending.paste(folder).items():
        job = folder / f"{name}.toml"
        job.write_text(configuration, encoding="utf-8")
        simulations.append(simulating(job))
        again += [[word, str(job.with_suffix(".h5"))] for word in ("replay", "show")]
    codes, outs, error = pdcode(*simulations, *again)
    assert not error
    for name in EXAMPLES:
        (folder / f"{name}.py").unlink()
    gone, _, error = pdcode(*again)
    first = len(EXAMPLES)
    return {
        name: Example(
            *(folder / f"{name}.h5", [codes[number], *codes[first + 2 * number :][:2]]),
            *(outs[first + 2 * number :][:2], gone[2 * number :][:2], complaint),
        )
        for number, (name, complaint) in enumerate(zip(EXAMPLES, error.splitlines(), strict=True))
    }


@pytest.mark.every(2)
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_on_the_virtual_clock_and_is_replayed(examples, name):
    example = examples[name]
    assert example.codes == [0, 0, 0]
    loss = Trace(example.trace).progress["loss"]
    assert loss[-1] < 0.9 * loss[0]
    replayed, shown = example.outs
    assert "bit-identical" in replayed
    assert name in shown
    assert example.gone == [2, 0]
    assert f"{example.trace.with_suffix('.py')}: no such file" in example.complaint


HALF = """
from pdcode.coding.policies import EachPayload
from pdcode.config import UpdateTable


class HalfTable(UpdateTable, tag="half"):
    makes = EachPayload
    asynchronous = by_count = True

    def min_payloads(self, workers):
        return 1

    def step_factor(self, payloads, workers):
        return 0.5
"""


@pytest.mark.every(3)
@pytest.mark.parametrize("name", [*EXAMPLES, "half"])
def test_a_plug_in_takes_the_same_turns_compiled_or_not(name, tmp_path, monkeypatch):
    jobs = extending.paste(tmp_path) | {"half": 'plugins = ["./half.py"]\n[update]\nmode = "half"\n'}
    (tmp_path / "half.py").write_text(HALF, encoding="utf-8")
    (tmp_path / "job.toml").write_text(jobs[name], encoding="utf-8")
    others = {  # another test of this process may have loaded a plug-in of the same name
        group: {each: kind for each, kind in own.items() if each != name}
        for group, own in kinds.KINDS.items()
    }
    monkeypatch.setattr(kinds, "KINDS", others)
    ended, judged, judge = [], [], Coordinator.judge
    monkeypatch.setattr(Coordinator, "judge", lambda *each: judged.append(each) or judge(*each))
    for path in ("compiled", "general"):
        simulate(tmp_path / "job.toml", output=tmp_path / f"{path}.h5", set=SETS, progress=False)
        trace = Trace(tmp_path / f"{path}.h5")
        ended.append([trace.theta.tobytes(), *(column.tobytes() for column in trace.updates.values())])
        monkeypatch.setattr(FusedCoordinator, "on_reply", Coordinator.on_reply)
    assert ended[0] == ended[1]
    assert name != "half" or len(judged) < 1.5 * 120  # one run's payloads are judged one by one


ENTRY_POINTS = """
[pdcode.stragglers]
weibull = weibull:Weibull
[pdcode.decoders]
diagonal = diagonal:DiagonalTable
[pdcode.optimizers]
adagrad = adagrad:AdagradTable
[pdcode.policies]
deadline = deadline:DeadlineTable
[pdcode.reductions]
ring = ring:RingTable
[pdcode.wires]
ternary = ternary:Ternary
[pdcode.problems]
huber = huber:Huber
factors = factors:FactorsTable
[pdcode.families]
ladder = ladder:LADDER
[pdcode.schemes]
clipped = clipped:Clipped
"""


def installed(folder: Path, entry_points: str) -> str:
    """Write what an installed package leaves; return the path of Python on which it is found."""
    (own := folder / "mine-1.0.dist-info").mkdir()
    (own / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\nSummary: 100 % ours\n")
    (own / "entry_points.txt").write_text(entry_points)
    return os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])


def test_a_kind_of_an_installed_package_needs_no_plugins(tmp_path: Path) -> None:
    """All groups of the examples, by an entry point each."""
    job, path = tmp_path / "job.toml", installed(tmp_path, ENTRY_POINTS)
    configurations = extending.paste(tmp_path)
    ring = extending.together({"ring": configurations.pop("ring")}, plugins=False)
    sums = tmp_path / "sums.toml"  # of their own, as they do not go with the others
    sums.write_text(f'scheme.name = "uncoded"\nupdate.mode = "all"\n{ring}', encoding="utf-8")
    job.write_text(extending.together(configurations, plugins=False), encoding="utf-8")
    codes, _, error = pdcode(simulating(job), simulating(sums), PYTHONPATH=path)
    assert codes == [0, 0], error
    assert pdcode(simulating(job), simulating(sums))[0] == [2, 2]


BROKEN = """
[pdcode.commands]
broken = nowhere_pkg:X
other = other:add_parser
number = other:NUMBER
idle = other:without_function
[pdcode.benches]
broken = nowhere_pkg:X
[pdcode.exporters]
broken = nowhere_pkg:X
number = other:NUMBER
[pdcode.importers]
broken = nowhere_pkg:X
number = other:NUMBER
"""
OTHER = """
NUMBER = 3
def add_parser(commands):
    commands.add_parser("another")
def without_function(commands):
    commands.add_parser("idle")
"""


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Folder with a trace and an installed package of a command, a format and an importer, and its path."""
    folder = tmp_path_factory.mktemp("tools")
    groups = extending.paste_tools(folder)
    entries = [(group, f"{name} = {place}") for group, own in groups.items() for name, place in own.items()]
    lines = BROKEN
    for group, line in entries:
        lines = lines.replace(f"[{group}]", f"[{group}]\n{line}")
    (folder / "other.py").write_text(OTHER)
    sets = [*SETS, "stragglers.kind=none"]
    simulate(ROOT / "jobs" / "digits.toml", set=sets, output=folder / "run.h5", progress=False)
    return folder, installed(folder, lines)


def test_a_package_adds_a_command_a_format_and_an_importer(tools: tuple[Path, str]) -> None:
    """As the examples of docs/extending.md do, beside packages that cannot be imported."""
    folder, path = tools
    run, log, job = (str(folder / name) for name in ("run.h5", "steps.log", "job.h5"))
    lines = [f"rank {rank} step {step} took 0.{1 + rank} s" for rank in range(3) for step in range(4)]
    Path(log).write_text("\n".join(lines))
    codes, outs, error = pdcode(
        ["--help"], ["slowest", "--help"], ["slowest", run, "--top", "2"], ["completion", "bash"],
        ["export", run, "-o", str(folder / "run.jsonl")], ["export", "--help"],
        ["import", "steplog", log, "-o", job], ["import", "--help"], ["bench", "--help"], PYTHONPATH=path,
    )  # fmt: skip
    assert codes == [0] * len(outs), error
    listed, about, slowest, completion, _, formats, imported, importers, benches = outs
    assert re.search(r"slowest +100 % ours\n +broken +100 % ours", listed)
    assert "number of workers (default: 5)" in about
    assert about.endswith("\nexample: pdcode slowest results/digits.h5 --top 3")
    assert re.fullmatch(r"(worker \d: [\d.]+ ms\n?){2}", slowest)
    assert "--top" in completion
    assert "jsonl .jsonl: a line of JSON for each" in " ".join(formats.split())
    rows = [json.loads(line) for line in (folder / "run.jsonl").read_text().splitlines()]
    assert [row["loss"] for row in rows] == Trace(run).progress["loss"].tolist()
    assert "4 steps of 3 workers" in imported
    assert "steplog: logs of a training script" in " ".join(importers.split())
    assert re.search(r"broken +100 % ours", benches)


def test_a_broken_command_format_or_importer_is_a_line_when_it_is_used(tools: tuple[Path, str]) -> None:
    folder, path = tools
    export, files = ["export", str(folder / "run.h5"), "-o", "x", "--to"], ["x", "-o", "y"]
    said = {
        "pdcode.commands: 'broken' (": ["broken"],
        "pdcode.commands: 'other': adds no parser of this name with a function": ["other"],
        "pdcode.commands: 'idle': adds no parser of this name with a function": ["idle"],
        "pdcode.commands: 'number': TypeError: 'int' object is not callable": ["number"],
        "pdcode.benches: 'broken' (": ["bench", "broken"],
        "pdcode.exporters: 'broken' (": [*export, "broken"],
        "pdcode.exporters: 'number' (other:NUMBER) is no kind of this group": [*export, "number"],
        "pdcode.importers: 'broken' (": ["import", "broken", *files],
        "pdcode.importers: 'number' (other:NUMBER) is no kind of this group": ["import", "number", *files],
    }
    codes, _, error = pdcode(*said.values(), PYTHONPATH=path)
    assert codes == [2] * len(said)
    for message, line in zip(said, error.splitlines(), strict=True):
        assert message in line
        assert ("broken" in message) == ("(nowhere_pkg:X) cannot be imported: No module" in line)


TABLE = """
from typing import ClassVar
from pdcode.schemes.common.adaptive import MatchedTable
class Mine(MatchedTable, tag="mine"):
    default_weight: ClassVar[int] = 7
"""


def test_codes_of_installed_packages_are_found_and_a_broken_package_harms_no_other(tmp_path: Path) -> None:
    """A family is a record or a class of keys; what cannot be imported is one line where it is asked for."""
    families = "[pdcode.families]\nbad = nowhere_pkg:X\ngraph = nowhere_pkg:Y\n"
    path = installed(tmp_path, f"[pdcode.codes]\nmine = table:Mine\n{families}")
    (tmp_path / "table.py").write_text(TABLE, encoding="utf-8")
    job = tmp_path / "job.toml"
    job.write_text("[stop]\nupdates = 1\n", encoding="utf-8")
    dry = ["run", str(job), "--dry-run", "--set"]
    runs = [[*dry, f"code.family={name}"] for name in ("mine", "graph", "nett", "bad")]
    design = ["codes", "design", "nett", "-n", "4", "-k", "4"]
    codes, outs, error = pdcode(["codes", "list"], *runs, design, PYTHONPATH=path)
    assert codes == [0, 0, 0, 2, 2, 2], error
    assert 'family = "mine"' in outs[1]
    assert "bad: pdcode.families: 'bad' (nowhere_pkg:X) cannot be imported" in outs[0]
    nett, bad, design = error.splitlines()
    assert "code.family: expected one of " in nett
    assert "pdcode.families: 'bad' (nowhere_pkg:X) cannot be imported: No module named 'nowhere_pkg'" in bad
    assert "family: expected one of " in design


def test_another_process_reads_the_plugins_of_a_configuration(tmp_path: Path) -> None:
    """As the planner's processes do, to which configurations are sent."""
    job = tmp_path / "job.toml"
    job.write_text(extending.paste(tmp_path)["weibull"], encoding="utf-8")
    (tmp_path / "config").write_bytes(pickle.dumps(configfile.load(job)[0]))
    code = (
        f"import pickle; print(pickle.load(open({str(tmp_path / 'config')!r}, 'rb')).stragglers.describe())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=True
    )
    assert done.stdout == "weibull: Weibull, scale 0.004 s, shape 0.7; 3× that for worker 2\n"


LAW = """
from pdcode.stragglers import Law
class Mine(Law, tag="{name}"):
    width_s: float = 0.1
    def delay_s(self, u):
        return self.width_s * u
"""


@pytest.mark.parametrize(
    ("plugin", "table", "words"),
    [
        ("import nowhere", "", ["mine.py, line 1", "ModuleNotFoundError", "nowhere"]),
        ("x = 1\ny = 1 +\n", "", ["mine.py, line 2", "SyntaxError", "invalid syntax"]),
        ("x = 1\n\nraise ValueError('one\\nof two')", "", ["mine.py, line 3", "ValueError: one of two"]),
        (LAW.format(name="pareto"), "", ["mine.py", "'pareto'", "pdcode/stragglers/laws.py"]),
        (LAW.format(name="a1"), '[stragglers]\nkind = "a1"\nwidth = 1', ["stragglers.width", "width_s"]),
        (LAW.format(name="a2"), '[stragglers]\nkind = "a3"', ["stragglers.kind", "pareto", "a2", "'a3'"]),
        (
            LAW.format(name="a4"),
            '[stragglers]\nkind = "a4"\nwidth_s = "x"',
            ["stragglers.width_s: expected number (got 'x')"],
        ),
    ],
)
def test_what_is_wrong_with_a_plugin_is_said_in_a_line(tmp_path, plugin, table, words):
    with refused(*words, start=f"{tmp_path / 'job.toml'}: "):
        configfile.load(write(tmp_path, plugin, table))


LOSS = """
import numpy as np
from pdcode.problems import Classification, Regression
class Mine(Regression, tag="{name}"):
    def loss(self, outputs, targets):
        errors = outputs - targets
        losses = {losses}
        return losses, {derivatives}
"""
SQUARES = "0.5 * (errors ** 2).sum(axis=1)"


@pytest.mark.parametrize(
    ("losses", "derivatives", "words"),
    [
        ("0.5 * errors ** 2", "errors", ["loss returns (16, 1) and (16, 1)", "not losses of shape (16,)"]),
        ("0.5 * (errors ** 2).sum()", "errors", ["loss returns () and (16, 1)"]),
        (SQUARES, "errors[:, 0]", ["loss returns (16,) and (16,)"]),
        ("0; return errors", "errors", ["loss returns ndarray for outputs of shape (16, 1)"]),
        (SQUARES, "-errors", ["contradict its losses"]),
        (SQUARES, "2 * errors", ["contradict its losses"]),
        (SQUARES, "errors.mean(axis=0) + 0 * errors", ["contradict its losses"]),
        (SQUARES, "errors", []),
        ("np.abs(errors).sum(axis=1)", "np.sign(errors)", []),
        ("(np.exp(errors) - errors - 1).sum(axis=1)", "np.exp(errors) - 1", []),
        ("1e6 * np.float32(errors ** 2).sum(axis=1)", "np.float32(2e6 * errors)", []),
        ("np.log1p(errors ** 2).sum(axis=1)", "2 * errors / (1 + errors ** 2)", []),
        ("np.full(len(errors), np.nan)", "errors", []),
        ("np.zeros(len(errors))", "np.zeros_like(errors)", []),
    ],
)
def test_a_loss_is_compared_with_its_derivatives_before_a_run(tmp_path, losses, derivatives, words):
    name = tmp_path.name
    table = f'[problem]\nkind = "{name}"\ndata = "diabetes"\nstandardise = true\n[stop]\nupdates = 1\n'
    job = write(tmp_path, LOSS.format(name=name, losses=losses, derivatives=derivatives), table)
    config, _ = configfile.load(job)
    if not words:
        setup.prepare(config)
        return
    with refused(f"problem.kind: '{name}': ", *words):
        setup.prepare(config)


@pytest.mark.parametrize(
    ("delay", "found"),
    [
        ("np.where(u > 0.99, np.nan, u)", "a delay of nan s"),
        ("u - 0.5", "a delay of -0.49"),
        ("u.mean()", "an array of shape () for random numbers of shape (8, "),
    ],
)
def test_delays_that_are_none_end_the_program(tmp_path: Path, capsys: Any, delay: str, found: str) -> None:
    name = tmp_path.name
    law = "import numpy as np\n" + LAW.format(name=name).replace("self.width_s * u", delay)
    job = write(tmp_path, law, f'[stragglers]\nkind = "{name}"\n[stop]\nupdates = 9\n')
    assert main(["simulate", str(job), "-o", str(tmp_path / "trace.h5")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"stragglers.kind: '{name}': delay_s returns {found}" in line


NOT_WAITING = """
from pdcode.coding.policies import Captured, CapturedTable
class NotWaiting(Captured):
    workers_wait = False
class NotWaitingTable(CapturedTable, tag="{name}"):
    makes = NotWaiting
"""
EXACT = """
problem = {{ kind = "softmax", data = "digits", batch = 0, dtype = "float64", shards = "common" }}
code = {{ family = "random", blocks = 10, weight = 4 }}
memory = {{ kind = "none" }}
decoder = {{ kind = "{decoder}" }}
update = {{ mode = "{mode}", fraction = 1.0 }}
optimizer = {{ rate = 0.05 }}
workers = {{ count = 2 }}
stop = {{ updates = 3 }}

[stragglers]
kind = "shifted-exponential"
shift_s = 0.01
mean_s = 1e-4
slow = [1]
slowdown = 100.0
"""


@pytest.mark.parametrize("decoder", ["least_squares", "residual"])
def test_payloads_that_a_worker_sends_without_waiting_are_all_kept(tmp_path: Path, decoder: str) -> None:
    """One worker sends all of an update's payloads, and the step is still the gradient's."""
    name = f"{tmp_path.name}-{decoder}"
    job = write(tmp_path, NOT_WAITING.format(name=name), EXACT.format(mode=name, decoder=decoder))
    plain = ["code={family='net',blocks=1}", "decoder.kind=adjoint", "update={mode='all'}"]
    trace, whole = (
        simulate(job, set=more, output=tmp_path / f"{len(more)}.h5", progress=False) for more in ((), plain)
    )
    assert np.bincount(trace.arrivals["worker"], trace.arrivals["status"] == 0)[0] >= 29
    np.testing.assert_allclose(trace.theta, whole.theta, atol=1e-9)


def test_two_plugins_with_a_kind_of_one_name_are_named(tmp_path: Path) -> None:
    configfile.load(write(tmp_path, LAW.format(name="twice"), name="one.py"))
    with pytest.raises(InputError, match=r"two\.py: 'twice' of stragglers is already defined in .*one\.py"):
        configfile.load(write(tmp_path, LAW.format(name="twice"), name="two.py"))


def test_a_plugin_that_fails_can_be_mended_in_the_same_process(tmp_path: Path) -> None:
    """As in a notebook: nothing of it is registered."""
    sound = LAW.format(name="half-a") + LAW.format(name="half-b").replace("Mine", "Other")
    for trouble in (LAW.format(name="pareto"), LAW.format(name="half-a"), "1 / 0\n"):
        with pytest.raises(InputError, match=r"mine\.py"):
            configfile.load(write(tmp_path, sound + trouble.replace("Mine", "More")))
    job = write(tmp_path, sound, '[stragglers]\nkind = "half-b"')
    assert configfile.load(job)[0].stragglers.kind == "half-b"


def test_a_plugin_may_have_base_classes_without_a_name(tmp_path: Path) -> None:
    plugin = (
        "from pdcode.schemes import Scheme\nfrom pdcode.stragglers import Law\n"
        "class Base(Scheme): fused = False\nclass Heir(Base): name, summary = 'heir', 'of a base'\n"
        "class Slow(Law, tag=False): pass\n"
    )
    for name in ("one.py", "two.py"):  # base classes of one name are no kinds of one name
        text = plugin.replace("heir", name)
        config, _ = configfile.load(write(tmp_path, text, f'[scheme]\nname = "{name}"', name))
        assert config.scheme.name == name


def test_a_plugin_is_one_by_whichever_link_it_is_found(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    write(tmp_path / "folder", LAW.format(name="linked"))
    for folder in ("folder", "link"):
        (path,) = configfile.load(tmp_path / folder / "job.toml")[0].plugins
        assert path == str(tmp_path / folder / "mine.py")


@pytest.mark.parametrize(
    "plugins", ['["none.py"]', '["."]', '["notes.txt"]', '"mine.py"', "[1]", '["a\\u0000b.py"]']
)
def test_what_is_no_plugin_is_refused(tmp_path: Path, plugins: str) -> None:
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "job.toml").write_text(f"plugins = {plugins}\n")
    with pytest.raises(InputError, match=r"job\.toml: plugins"):
        configfile.load(tmp_path / "job.toml")
