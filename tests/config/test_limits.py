"""Hostile configurations end in one short line, at once."""

from pathlib import Path

import pytest

from pdcode.config import load as configfile
from pdcode.util.errors import InputError

DIGITS, NESTED, PARTS = "9" * 5000, "[" * 5000, "a." * 50_000
UNKNOWN = "\n".join(f"key{number} = 'value'" for number in range(60_000))


def refused(path: Path, *overrides: str) -> str:
    with pytest.raises(InputError) as caught:
        configfile.load(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message.replace(str(path), "")) < 2000  # with the kinds that other tests have registered
    return message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"seed = {DIGITS}", "digits"),
        (f"[code]\nblocks = {NESTED}", "nested too deeply"),
        (f"{PARTS}b = 1", "a key of more than 200 parts"),
        (f"[{PARTS}b]", "a key of more than 200 parts"),
        (f"code = {{{PARTS}b = 1}}", "a key of more than 200 parts"),
        (UNKNOWN, "larger than 1,048,576 bytes"),
        (f"{'k' * 100_000} = 1", "unknown key (value 1)"),
        (f"other = '{'v' * 100_000}'", "other: unknown key (value 'vvv"),
        (f"[code]\nblocks = '{'v' * 100_000}'", "code.blocks: expected"),
        (f"[problem]\nkind = '{'v' * 100_000}'", "problem.kind: expected one of"),
        (f"[update]\nmode = {list(range(10_000))}", "update.mode: expected"),
        ("plugins = ['a\\nb']", "a\\nb: no such file"),
        ('"unknown field" = 1', "unknown field: unknown key"),
        ('"missing required" = 1', "missing required: unknown key"),
        ("[update]\nmode = 'unknown field'", "update.mode: expected one of async"),
    ],
)
def test_a_hostile_file(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "job.toml"
    path.write_text(text)
    assert words in refused(path)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (f"seed={DIGITS}", "--set seed: Exceeds the limit"),
        (f"code.options.a={NESTED}", "--set code.options.a: nested too deeply"),
        (f"{PARTS}b=1", "a key of more than 200 parts"),
        (f"code={{{PARTS}b=1}}", "a key of more than 200 parts"),
        ("x" * 100_000, "expected KEY=VALUE"),
        (f"update.mode={'v' * 100_000}", "update.mode: expected one of"),
        (f"seed.{'k' * 100_000}=1", "seed: expected integer (got {"),
        ("code.family=[]", "code.family: expected text (got [])"),
        (f"code.{'k' * 100_000}=1", "unknown key"),
    ],
)
def test_a_hostile_override(tmp_path: Path, override: str, words: str) -> None:
    path = tmp_path / "job.toml"
    path.write_text("")
    assert words in refused(path, override)


def test_long_values_that_are_right_are_read(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    slow = list(range(4096))
    path.write_text(
        f"# {'.' * 500}\nworkers.count = 4096\n"
        f"[stragglers]\nkind = 'slow-set'\nslowdown = 2.5\nslow = {slow}\n[trace]\npath = '{'a.' * 100}h5'\n"
    )
    assert configfile.load(path)[0].stragglers.slow == slow
