"""Reading of configurations: TOML, command-line overrides, scheme defaults, and one-line errors."""

import codecs
import os
import re
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from ..util.errors import InputError, prefix_errors, reason, short_repr, shorten, similar_file
from . import building, defaults, kinds, requirements
from .defaults import Origins
from .problems import is_bundled
from .schema import KINDS, Config, SchemeTable

MAX_FILE_BYTES = 1 << 20  # bytes
FOREIGN = {
    ".csv", ".tsv", ".parquet", ".npz", ".npy", ".json", ".yaml", ".toml", ".html", ".txt", ".log", ".py",
    ".png", ".svg", ".pdf", ".xlsx", ".doc", ".docx", ".pkl", ".pt", ".safetensors", ".zip",
}  # fmt: skip
"""Ends of names of files that are no trace."""
MAX_KEY_PARTS = 200  # of a dotted key: tomllib's time is quadratic in them


def load(
    path: str | Path, overrides: Sequence[str] = (), origins: Origins | None = None
) -> tuple[Config, str]:
    """Read and check a configuration.

    Parameters
    ----------
    path : path
        The TOML file.
    overrides : sequence of str
        ``key=value`` with dotted keys. A value is parsed as TOML, and taken as a string if that fails.
        Paths in the file are relative to its folder, those in overrides to the current folder.
    origins : Origins, optional
        Filled with the origins of the values.

    Returns
    -------
    config : Config
        The resolved configuration, with the scheme's defaults.
    text : str
        The content of the file.
    """
    text = read_text(path, "a configuration")
    with prefix_errors(path):
        try:
            tables = parse(text)
        except ValueError as error:
            raise InputError(f"not TOML: {error}{_toml_hint(text, str(error), Path(path))}") from None
        return resolve(tables, overrides, Path(path).parent, origins), text


def read_text(path: str | Path, what: str, most: int = MAX_FILE_BYTES) -> str:
    """Read a small text file of the user; `what` is its purpose, for messages."""
    try:
        if Path(path).resolve().is_fifo():  # not the shell's <(…): opening one may wait for ever
            raise OSError(0, "a named pipe, not a file")
        with open(path, "rb") as file:
            content = file.read(most + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise InputError(f"{path}: {reason(error)}{similar_file(path)}") from None
    if content.startswith(b"\x89HDF\r\n"):
        raise InputError(
            f"{path}: an HDF5 file, such as a trace, not {what}; `pdcode show` and `replay` read traces"
        )
    if len(content) > most:
        raise InputError(f"{path}: larger than {most:,} bytes, so not {what}")
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError(f"{path}: UTF-16; save it as UTF-8")
    if b"\0" in content:
        raise InputError(f"{path}: not a text file, so not {what}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text, from byte {error.start}; save it as UTF-8") from None


def _toml_hint(text: str, error: str, path: Path) -> str:
    """Return the place of an error in TOML, and what is probably wrong, to end a message."""
    if path.suffix.lower() not in ("", ".toml"):
        return "; a configuration is TOML, such as jobs/digits.toml"
    if (at := re.search(r"line (\d+), column (\d+)", error)) is None:
        return ""
    line = text.splitlines()[int(at[1]) - 1]
    rest = line[int(at[2]) - 1 :]
    hints = {
        r"(?i)(true|yes|on)\b": "; TOML has true and false",
        r"(?i)(false|no|off)\b": "; TOML has true and false",
        r"[“”‘’]": "; use ASCII quotes",
        r"[A-Za-z_]": "; text is quoted",
        r"\s*:": "; between key and value is =",
    }
    if re.search(r"=\s*\d+,\d+\s*$", line[: int(at[2]) - 1]):
        return "; numbers have a point, not a comma"
    hint = next((hints[each] for each in hints if re.match(each, rest)), "")
    return f": {short_repr(rest.strip()[:40])}{hint}" if rest.strip() and "Cannot" not in error else hint


def parse(text: str) -> dict[str, Any]:
    """Parse TOML; ValueError if it is not TOML, or a number has too many digits."""
    for piece in re.split(r"^[ \t]*#.*$|[\n,={}\[\]]", text, flags=re.MULTILINE):
        if piece.count(".") > MAX_KEY_PARTS:
            raise InputError(f"{shorten(piece.strip())}: a key of more than {MAX_KEY_PARTS} parts")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise InputError("nested too deeply") from None


def resolve(
    tables: dict[str, Any],
    overrides: Sequence[str] = (),
    folder: str | Path = "",
    origins: Origins | None = None,
) -> Config:
    """Convert the tables of a TOML file to a checked configuration, by the rules of `config.defaults`.

    With preset "auto" the tables come from a candidate. Plug-ins are imported. Paths of files to read
    become absolute: those in `tables` are relative to `folder`, the folder of the file, and those in
    `overrides` to the current folder.
    """
    parsed = _scheme_by_key([parse_override(override) for override in overrides])
    tables = dict(tables)
    _load_plugins(tables, parsed, Path(folder))
    _name_file_code(tables, parsed)
    of_file = dict(tables)
    chosen = {keys[1]: str(value) for keys, value in parsed if keys[0] == "scheme" and len(keys) == 2}
    commanded = [keys[0] for keys, _ in parsed]
    if chosen:  # a scheme from the command line takes precedence over the file's tables
        if "name" in chosen:
            chosen = defaults.with_default_preset({"scheme": chosen}, commanded)["scheme"]
        tables = defaults.replace_defaults(tables, chosen.get("name"), chosen.get("preset"))
    given: dict[str, dict[str, Any]] = {}
    for keys, value in parsed:
        if len(keys) == 2:
            given.setdefault(keys[0], {})[keys[1]] = value
    for name, table in given.items():
        if isinstance(tables.get(name), dict):
            tables[name] = defaults.without_conflicting(name, tables[name], table)
    tables = defaults.with_default_preset(tables, commanded)
    tables = defaults.add_defaults(tables, given)
    origins = Origins() if origins is None else origins
    origins.note_tables(of_file, tables, parsed)
    for keys, value in parsed:
        _insert(tables, keys, value)
    tables, config = defaults.with_needed_keys(tables, origins)
    if defaults.is_auto(tables):
        tables = _with_given(tables, parsed, Path(folder))
        config = Config.of(tables)
    config = defaults.settled(config, origins)
    complete = _with_files(config, parsed, Path(folder))
    if complete.scheme.is_auto:
        return provisional(complete)
    origins.note_completed(tables, complete)
    with _with_origin(origins):
        check_consistency(complete)
    return complete


@contextmanager
def _with_origin(origins: Origins) -> Iterator[None]:
    """Add to a refusal of a key that is not given who gives it: a scheme, a preset, or a need."""
    try:
        yield
    except InputError as error:
        text, key = str(error), str(error).partition(":")[0]
        if (origin := origins.get(key, "")).startswith(("scheme ", "preset ", "needed ")):
            text += f"; {key} is {'that of ' * (not origin.startswith('needed'))}{origin}"
        raise InputError(text) from None


def _with_given(tables: dict[str, Any], parsed: list[tuple[list[str], Any]], folder: Path) -> dict[str, Any]:
    """Move the tables that presets fill to `scheme.given`; paths of files become absolute."""
    given = {name: tables[name] for name in defaults.FILLED if name in tables}
    code = given.get("code")
    if isinstance(code, dict) and isinstance(path := code.get("path"), str):
        here = any(keys in (["code"], ["code", "path"]) for keys, _ in parsed)
        given["code"] = {**code, "path": os.path.abspath(path if here else folder / path)}
    others = {name: table for name, table in tables.items() if name not in given}
    return others | {"scheme": {**tables["scheme"], "given": given}}


def candidates(config: Config) -> Iterator[tuple[str, Config | InputError]]:
    """Yield the candidates of preset "auto": the name, and the configuration or why there is none."""
    scheme: Any = kinds.find("schemes", config.scheme.name)
    for name in scheme.candidates:
        try:
            made = defaults.preset_filled(config, name, Origins())
            check_consistency(made)
            yield name, made
        except InputError as error:
            yield name, error


def provisional(config: Config) -> Config:
    """Return the configuration with the tables of the first candidate that the given keys allow."""
    found = list(candidates(config))
    errors = [made for _, made in found if isinstance(made, InputError)]
    for _, made in found:
        if not isinstance(made, InputError):
            return msgspec.structs.replace(made, scheme=config.scheme)
    raise errors[0]


def _with_files(config: Config, parsed: list[tuple[list[str], Any]], folder: Path) -> Config:
    """Make the paths of files to read absolute, and add the keys that follow from these files.

    Paths from the command line are relative to the current folder, others to `folder`.
    """
    commanded = {tuple(keys[:2]) for keys, _ in parsed}
    changed, plugins = dict[str, Any](), dict.fromkeys(config.plugins, "plugins")  # file -> key
    trace = os.path.abspath(config.trace.path)  # before a user's code, which may change the folder
    for name in ("faults", *KINDS):
        table = getattr(config, name)
        given = {key: getattr(table, key) for key in table.paths}
        paths = {
            key: value
            for key, value in given.items()
            if value not in (None, "auto") and not is_bundled(value)
        }
        for key, value in paths.items():
            here = {(name,), (name, key)} & commanded
            paths[key] = os.path.abspath(value if here else folder / value)
        for key in getattr(table, "references", ()):
            value = getattr(table, key)
            if not value or value.isidentifier():  # a library's, where that is allowed
                continue
            here = {(name,), (name, key)} & commanded
            paths[key], file = kinds.locate(f"{name}.{key}", value, Path() if here else folder)
            if file:
                plugins.setdefault(file, f"{name}.{key}")
        changed[name] = msgspec.structs.replace(table, **paths).completed()
    for path, key in plugins.items():
        kinds.load_plugin(path, key)
    if plugins:
        changed["trace"] = msgspec.structs.replace(config.trace, path=trace)
    return msgspec.structs.replace(config, plugins=[*plugins], **changed)


def _scheme_by_key(parsed: list[tuple[list[str], Any]]) -> list[tuple[list[str], Any]]:
    """Replace an override of all of ``[scheme]`` by one of each key, as name and preset provide defaults."""
    replaced: list[tuple[list[str], Any]] = []
    for keys, value in parsed:
        if keys == ["scheme"] and isinstance(value, dict):
            replaced = [pair for pair in replaced if pair[0][0] != "scheme"]
            options = {"name": SchemeTable().name} | value
            replaced += [(["scheme", key], item) for key, item in options.items()]
        else:
            replaced.append((keys, value))
    return replaced


def load_plugins(overrides: Sequence[str]) -> None:
    """Import the plug-ins that are named on the command line."""
    _load_plugins({}, [parse_override(override) for override in overrides], Path())


def _load_plugins(tables: dict[str, Any], parsed: list[tuple[list[str], Any]], folder: Path) -> None:
    """Import the plug-ins, before kinds are looked up, and make their paths absolute in `tables`."""
    for keys, value in parsed:
        if keys == ["plugins"]:
            tables["plugins"], folder = value, Path()
    parsed[:] = [pair for pair in parsed if pair[0] != ["plugins"]]
    if "plugins" in tables:
        given = building.build(list[str], tables["plugins"], "plugins")
        tables["plugins"] = [os.path.abspath(folder / path) for path in given]
        for path in tables["plugins"]:
            kinds.load_plugin(path)


def _name_file_code(tables: dict[str, Any], parsed: list[tuple[list[str], Any]]) -> None:
    """Add the family "file" where the path of a code is given without a family."""
    code, commanded = tables.get("code"), [keys for keys, _ in parsed]
    if isinstance(code, dict) and "path" in code:
        tables["code"] = {"family": "file", **code}
    for keys, table in parsed:
        if keys == ["code"] and isinstance(table, dict) and "path" in table:
            table.setdefault("family", "file")
    if ["code", "path"] in commanded and ["code", "family"] not in commanded:
        parsed.append((["code", "family"], "file"))


def check_consistency(config: Config) -> None:
    """Refuse combinations of keys that cannot work."""
    requirements.check(config)
    path = Path(config.trace.path)
    if path.name in ("", ".."):
        raise InputError(f"trace.path: '{config.trace.path}' is not the name of a file")
    if path.suffix.lower() in FOREIGN:
        raise InputError(f"trace.path: '{path}': a trace is HDF5: expected a name that ends in .h5")
    for name in ("scheme", "faults", *KINDS):
        getattr(config, name).check_config(config)


def parse_override(override: str) -> tuple[list[str], Any]:
    """Return the parts of the key, and the value, of an override ``KEY=VALUE``."""
    key, equals, text = override.partition("=")
    keys = key.strip().split(".")
    if not equals or not all(keys):
        given = shorten(override)
        raise InputError(f"--set {given}: expected KEY=VALUE with a dotted key, such as update.mode=all")
    if len(keys) > MAX_KEY_PARTS:
        raise InputError(f"--set {shorten(key)}: a key of more than {MAX_KEY_PARTS} parts")
    with prefix_errors(f"--set {shorten(key)}"):
        try:
            return keys, parse(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            if re.fullmatch(r"\s*(\{.*\}|\[.*\])\s*", text):
                why = "not TOML; within braces text is quoted, for the shell as in '{kind=\"all\"}'"
                raise InputError(f"{short_repr(text.strip())}: {why}") from None
            return keys, text.strip()
        except InputError:
            raise
        except ValueError as error:  # a number of too many digits
            raise InputError(str(error)) from None


def _insert(tables: dict[str, Any], keys: list[str], value: Any) -> None:
    table = tables
    for key in keys[:-1]:
        inner = table.get(key, {})
        if not isinstance(inner, dict):
            as_in = f"its keys are set as in {shorten('.'.join(keys))}=…"
            raise InputError(f"--set {shorten(key)}: expected table (got {short_repr(inner)}); {as_in}")
        table[key] = dict(inner)  # a copy, as the table may belong to the caller or a scheme
        table = table[key]
    table[keys[-1]] = value
