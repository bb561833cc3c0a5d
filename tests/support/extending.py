"""The examples of docs/extending.md, pasted out of it."""

import json
import re
import tomllib
from pathlib import Path

from paths import ROOT

TOOLS = re.compile(r"```python\n# (\w+)\.py\n(.*?)```\n\n(?!```toml)", re.DOTALL)
PACKAGE = re.compile(r"```toml\n(\[project\]\n.*?)```", re.DOTALL)
BLOCKS = re.compile(r"```python\n# (\w+)\.py\n(.*?)```\n\n```toml\n(.*?)```", re.DOTALL)


def paste(folder: Path) -> dict[str, str]:
    """Write the Python files of all examples into a folder; return their configurations by name."""
    configurations = {}
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    for name, code, configuration in BLOCKS.findall(text):
        (folder / f"{name}.py").write_text(code, encoding="utf-8")
        configurations[name] = configuration
    return configurations


def paste_tools(folder: Path) -> dict[str, dict[str, str]]:
    """Write the modules of a command, a format and an importer; return their entry points by group."""
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    for name, code in TOOLS.findall(text):
        (folder / f"{name}.py").write_text(code, encoding="utf-8")
    (package,) = PACKAGE.findall(text)
    found: dict[str, dict[str, str]] = tomllib.loads(package)["project"]["entry-points"]
    return found


def together(configurations: dict[str, str], plugins: bool = True) -> str:
    """One configuration with the tables of which the examples are kinds, of a table the first."""
    parsed = {name: tomllib.loads(text) for name, text in configurations.items()}
    lines, written = [f"plugins = {json.dumps([f'{name}.py' for name in parsed])}"] if plugins else [], set()
    for name, tables in parsed.items():
        for key, table in tables.items():
            if isinstance(table, dict) and name in table.values() and key not in written:
                written.add(key)
                lines += [f"[{key}]", *(f"{option} = {_value(value)}" for option, value in table.items())]
    return "\n".join([*lines, "[memory]", 'kind = "none"', ""])


def _value(value: object) -> str:
    """A value as TOML; tables of one level are written inline."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {json.dumps(each)}" for key, each in value.items()) + "}"
    return json.dumps(value)
