"""The examples of docs/extending.md, pasted out of it."""

import json
import re
import tomllib
from pathlib import Path

from paths import ROOT

BLOCKS = re.compile(r"```python\n# (\w+)\.py\n(.*?)```\n\n```toml\n(.*?)```", re.DOTALL)


def paste(folder: Path) -> dict[str, str]:
    """Write the Python files of all examples into a folder; return their configurations by name."""
    configurations = {}
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    for name, code, configuration in BLOCKS.findall(text):
        (folder / f"{name}.py").write_text(code, encoding="utf-8")
        configurations[name] = configuration
    return configurations


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
