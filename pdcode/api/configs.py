"""Configurations in Python: of files, of dicts, and of traces."""

import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ..config import Config, legacy
from ..config import load as configfile
from ..config.write import to_toml, to_value
from ..trace.reader import TraceReader
from ..util.errors import Failure, InputError, prefix_errors, short_repr

PathLike = str | os.PathLike[str]
ConfigLike = PathLike | Mapping[str, Any] | TraceReader
"""A TOML file, its tables as a dict, or the trace of a run with the configuration."""

Settings = Mapping[str, Any] | Iterable[str]
"""Keys to override: dotted key -> value, or "KEY=VALUE" as on the command line."""


def overrides(settings: Settings, workers: int | None = None, output: PathLike | None = None) -> list[str]:
    """Return settings, with the number of workers and the trace's path, as ``KEY=VALUE``."""
    if isinstance(settings, Mapping):
        settings = [f"{key}={to_value(value, str(key))}" for key, value in settings.items()]
    elif isinstance(settings, str):
        settings = [settings]
    named = {"workers.count": workers, "trace.path": output}
    more = (f"{key}={to_value(value, key)}" for key, value in named.items() if value is not None)
    return [*settings, *more]


def path_of(file: PathLike | TraceReader | None) -> str | None:
    """Return the path of a file or trace."""
    return None if file is None else os.fspath(file.path if isinstance(file, TraceReader) else file)


class LoadedConfig(NamedTuple):
    """A configuration that has been read and checked."""

    config: Config
    text: str  # the TOML; paths of a dict are absolute
    name: str  # the file, for messages; empty for a dict

    @contextmanager
    def as_file(self) -> Iterator[str]:
        """Provide the file for another process, or a temporary one with the TOML of a dict."""
        if self.name:
            yield self.name
            return
        import tempfile  # not loaded by ranks

        with tempfile.TemporaryDirectory(prefix="pdcode-") as folder:
            path = Path(folder) / "config.toml"
            path.write_text(self.text, encoding="utf-8")
            try:
                yield str(path)
            except (InputError, Failure) as error:
                error.args = (str(error).removeprefix(f"{path}: "),)
                raise


def read(given: ConfigLike, settings: Sequence[str]) -> LoadedConfig:
    """Read and check a configuration with overrides."""
    if isinstance(given, str | os.PathLike):
        name = os.fspath(given)
        return LoadedConfig(*configfile.load(name, settings), name)
    if isinstance(given, TraceReader):
        configfile.load_plugins(settings)
        with prefix_errors(given.path):
            tables = tomllib.loads(to_toml(legacy.read(given.config, given.plugin_digests)))
    elif isinstance(given, Mapping):
        tables = tomllib.loads(to_toml(given))
    else:
        raise InputError(f"config: {short_repr(given)}: expected a dict, the path of a TOML file, or a Trace")
    config = configfile.resolve(tables, settings)
    resolved = msgspec.to_builtins(config)
    for name, table in tables.items():
        for key in table if isinstance(table, dict) else ():
            if isinstance(path := resolved[name].get(key), str) and os.path.isabs(path):
                table[key] = path
    if "plugins" in tables:
        tables["plugins"] = config.plugins
    return LoadedConfig(config, to_toml(tables), "")
