"""The recipes of packaging/ ask for what pyproject.toml asks for."""

import re
import tomllib

from paths import ROOT

from pdcode.util.version import __version__

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
RUN = dict(each.split(">=") for each in PROJECT["project"]["dependencies"])
BUILD = dict(each.split(">=") for each in PROJECT["build-system"]["requires"])
PYTHON = {"python": PROJECT["project"]["requires-python"].removeprefix(">=")}


def test_spack() -> None:
    recipe = (ROOT / "packaging" / "spack" / "package.py").read_text(encoding="utf-8")
    wanted: dict[str, dict[str, str]] = {"build": {}, "run": {}}
    for name, version, types in re.findall(r'depends_on\("([\w-]+)@([\d.]+):", type=(.+)\)', recipe):
        for each in re.findall(r"\w+", types):
            wanted[each][name.removeprefix("py-")] = version
    assert wanted["run"] == RUN | PYTHON
    assert wanted["build"].items() >= (BUILD | PYTHON).items()
    assert PROJECT["project"]["description"] in recipe


def test_conda() -> None:
    recipe = (ROOT / "packaging" / "conda" / "meta.yaml").read_text(encoding="utf-8")
    host, _, rest = recipe.partition("  host:\n")[2].partition("  run:\n")
    run = rest.partition("\ntest:\n")[0]
    run, host = (dict(re.findall(r"- ([\w-]+) >=(\S+)", text)) for text in (run, host))
    run["matplotlib"] = run.pop("matplotlib-base")  # conda-forge's name for it without a desktop toolkit
    assert run == RUN | PYTHON
    assert host == BUILD | PYTHON
    assert f'version: "{__version__}"' in recipe
    (script,) = PROJECT["project"]["scripts"].items()
    assert " = ".join(script) in recipe


def test_the_extra_all_has_what_users_of_the_wheel_can_want() -> None:
    """The benchmarks, and what makes and tests a clone, are not in the wheel."""
    extras = dict(PROJECT["project"]["optional-dependencies"])
    for name in ("bench", "test", "docs", "lint"):
        del extras[name]
    everything = extras.pop("all")
    assert sorted(everything) == sorted({each for names in extras.values() for each in names})
