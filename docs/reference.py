"""Sphinx directives that read pdcode: keys of the configuration, presets, columns of the trace, commands.

The meaning of a key is the ``#:`` comment of its field; type, bounds and default come from the struct.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from inspect import cleandoc
from itertools import compress
from typing import Any

import msgspec
from docutils import nodes
from msgspec import inspect
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

from pdcode import config
from pdcode.__main__ import parser
from pdcode.config import kinds
from pdcode.config.requirements import in_full
from pdcode.trace import schema

HUGE = 1e6  # bounds from here on only guard against overflow, and are not worth a word
UNIT = re.compile(r" \[([^\]]+)\]$")  # at the end of a meaning


class Key:
    """A key of a table, in words.

    Attributes
    ----------
    name, type, default, unit, meaning : str
        Markdown; empty where there is none.
    """

    def __init__(self, struct: type, field: Any) -> None:
        self.name, self.meaning = field.name, meaning_of(struct, field.name)
        self.type = type_words(field.type)
        self.default = default_words(field)
        found = UNIT.search(self.meaning)
        self.meaning, self.unit = UNIT.sub("", self.meaning), found[1] if found else ""

    def cells(self) -> list[str]:
        return [f"`{self.name}`", self.type, self.default, self.unit, self.meaning]


BASES = {**config.KINDS, **{each.table: each for each in (config.FaultEvent, config.Proximal)}}
HEAD = ["key", "type", "default", "unit", "meaning"]


def defined_in(struct: type, name: str) -> type:
    """Return the class that defines a field."""
    return next(cls for cls in struct.__mro__ if name in vars(cls).get("__annotations__", {}))


def meaning_of(struct: type, name: str) -> str:
    """Return the ``#:`` comment of a field.

    Raises
    ------
    ValueError
        If there is none.
    """
    cls = defined_in(struct, name)
    lines = ModuleAnalyzer.for_module(cls.__module__).find_attr_docs().get((cls.__qualname__, name))
    if lines is None:
        raise ValueError(f"{cls.__module__}.{cls.__qualname__}.{name} has no #: comment")
    return " ".join(line.strip() for line in lines).strip()


def type_words(kind: Any) -> str:
    """Return a type with its bounds in words."""
    match kind:
        case inspect.UnionType(types=types):
            words = [type_words(each) for each in types if not isinstance(each, inspect.NoneType)]
            return ", or ".join(dict.fromkeys(words))
        case inspect.Metadata(type=inner, extra=extra):
            words = type_words(inner)
            return words.replace(words.split()[0], extra["quantity"], 1) if extra else words
        case inspect.LiteralType(values=values):
            return ", ".join(f"`{value_words(value)}`" for value in values)
        case inspect.ListType(item_type=item):
            words = type_words(item)
            return f"list of these: {words}" if words.startswith("`") else f"list: {words}"
        case inspect.DictType():
            return "table"
        case inspect.IntType():
            return "integer" + bounds(kind)
        case inspect.FloatType():
            return "number" + bounds(kind)
        case inspect.StrType():
            return "text"
        case inspect.BoolType():
            return "`true`, `false`"
        case inspect.StructType():
            return "table"
        case inspect.AnyType():
            return "any"
    raise TypeError(f"{kind}: no words for this type")


def bounds(kind: Any) -> str:
    """Return the bounds of a number in words, with a space before."""
    said = []
    for sign, value in ((">", kind.gt), ("≥", kind.ge), ("<", kind.lt), ("≤", kind.le)):
        if value is not None and abs(value) < HUGE:
            said.append(f"{sign} {value:g}")
    return f" {', '.join(said)}" if said else ""


def value_words(value: Any) -> str:
    """Return a value as it stands in TOML."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return f'"{value}"'
        case float():
            return f"{value:g}"
        case list() | tuple():
            return f"[{', '.join(map(value_words, value))}]"
        case dict():
            return f"{{{', '.join(f'{key} = {value_words(each)}' for key, each in value.items())}}}"
        case msgspec.Struct():
            return value_words(msgspec.structs.asdict(value))
    return str(value)


def default_words(field: Any) -> str:
    """Return the default of a field as it stands in TOML; "–" for none."""
    if field.required:
        return "must be given"
    value = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    return "–" if value is None else f"`{value_words(value)}`"


def keys(struct: type, names: Iterable[str] | None = None) -> list[Key]:
    """Return the keys of a struct, in order."""
    fields = inspect.type_info(struct).fields  # type: ignore[union-attr]
    wanted = {field.name for field in fields} if names is None else {*names}
    return [Key(struct, field) for field in fields if field.name in wanted]


def markdown(lines: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown; its first line is the head."""
    head, *rows = ([cell.replace("|", r"\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows))


def prose(doc: str | None) -> str:
    """Return a docstring without its numpydoc sections, as Markdown."""
    text = re.split(r"\n\s*\n[A-Z]\w+\n-{3,}", cleandoc(doc or ""))[0]
    return text.replace("*", r"\*")


class Reading(SphinxDirective):
    """A directive whose nodes are made of Markdown, tables and sections."""

    has_content = False
    optional_arguments = 1
    final_argument_whitespace = True

    def section(self, title: str, *children: nodes.Node, ids: str) -> nodes.section:
        section = nodes.section(ids=[ids], names=[nodes.fully_normalize_name(ids)])
        section += nodes.title("", "", *self.parse_inline(title)[0])
        section += list(children)
        self.state.document.note_explicit_target(section)
        return section

    def table(
        self, head: Sequence[str], rows: Sequence[Sequence[str]], names: Sequence[str] = ()
    ) -> list[nodes.Node]:
        """A table without its empty columns; a search and the role ``confval`` find its rows by `names`."""
        used = [any(cells) for cells in zip(*rows, strict=True)]
        made = self.parse_text_to_nodes(markdown([*compress(line, used)] for line in (head, *rows)))
        entries = [row for table in made for body in table.findall(nodes.tbody) for row in body]
        for name, row in zip(names, entries, strict=False):
            target = nodes.make_id(f"key-{name}")
            if target not in self.state.document.ids:
                row["ids"].append(target)
                self.state.document.ids[target] = row
                self.env.domains.standard_domain.note_object("confval", name, target, location=row)
        return made


class Keys(Reading):
    """The keys of a table; of tables that come in kinds, a section a kind."""

    def run(self) -> list[nodes.Node]:
        (name,) = self.arguments
        struct: Any = BASES.get(name)
        if struct is not None:
            return self.kinds(name, struct)
        if name == "top level":
            return self.rows("", keys(config.Config, ["seed", "plugins"]))
        return self.rows(name, keys(type(getattr(config.Config(), name))))

    def rows(self, table: str, found: Sequence[Key], kind: str = "") -> list[nodes.Node]:
        names = [".".join(filter(None, (table, key.name))) for key in found]
        known = self.env.domains.standard_domain.objects
        names = [f"{name} ({kind})" if kind and ("confval", name) in known else name for name in names]
        return self.table(HEAD, [key.cells() for key in found], names)

    def kinds(self, table: str, base: Any) -> list[nodes.Node]:
        tag = base.__struct_config__.tag_field
        found = {name: base.find(name) for name in kinds.KINDS[base.group]}
        if base is config.CodeTable:
            found = {"net": config.DesignedTable, **found}
        sharing: dict[tuple[type, str], list[str]] = {}
        for kind, struct in found.items():
            for key in struct.__struct_fields__:
                sharing.setdefault((defined_in(struct, key), key), []).append(kind)
        everywhere = [key for (_, key), having in sharing.items() if len(having) == len(found)]
        common = keys(base, everywhere)
        sections: list[nodes.Node] = []
        made = self.table(
            HEAD,
            [self.choice(table, tag, found), *(key.cells() for key in common)],
            [f"{table}.{name}" for name in (tag, *(key.name for key in common))],
        )
        several = {which: having for which, having in sharing.items() if 1 < len(having) < len(found)}
        if several:
            made += self.parse_text_to_nodes("Keys of several kinds:")
            rows, names = [], []
            for (_, key), having in several.items():
                (described,) = keys(found[having[0]], [key])
                lacking = [kind for kind in found if kind not in having]
                where = f"all but {listed(lacking)}" if len(lacking) < len(having) else listed(having)
                rows.append([*described.cells(), where])
                names.append(f"{table}.{key}")
            made += self.table([*HEAD, "kinds"], rows, names)
        short = []
        for kind, struct in found.items():
            own = [key for (_, key), having in sharing.items() if having == [kind] and key != tag]
            options = struct_options(struct)
            text = prose(struct.__doc__)
            if not own and not options and "\n\n" not in text:
                short.append([f'`"{kind}"`', " ".join(text.split())])
                continue
            designed = struct is config.DesignedTable
            title = f'`{tag} = "{kind}"`' + (
                " and all other families of `pdcode codes list`" if designed else ""
            )
            body = self.parse_text_to_nodes(text) + (self.rows(table, keys(struct, own), kind) if own else [])
            if options:
                body += self.parse_text_to_nodes("Keys of `options`:") + self.rows(
                    f"{table}.options", keys(options)
                )
            sections.append(self.section(title, *body, ids=f"{table}-{kind}".replace(".", "-")))
        if short:
            made += self.table([f"`{tag}`", "no keys of its own"], short)
        return made + sections

    def choice(self, table: str, tag: str, found: dict[str, Any]) -> list[str]:
        """The row of the key that names the kind."""
        names = ", ".join(f'`"{kind}"`' for kind in found) + (", …" if table == "code" else "")
        default = f'`"{BASES[table].default}"`'
        if table == "decoder":
            default = "the memory's"
        return [f"`{tag}`", names, default, "", "name of the kind; each has keys of its own"]


def struct_options(struct: Any) -> Any:
    """Return the struct of a kind's key ``options``, or None."""
    for field in inspect.type_info(struct).fields:  # type: ignore[union-attr]
        if field.name == "options" and isinstance(field.type, inspect.StructType):
            return field.type.cls
    return None


def listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


class Schemes(Reading):
    """A section a scheme: its options, the tables that it fills in, its presets."""

    def run(self) -> list[nodes.Node]:
        made: list[nodes.Node] = []
        for name in kinds.KINDS["schemes"]:
            scheme = kinds.find("schemes", name)
            body = self.parse_text_to_nodes(prose(scheme.__doc__))
            if options := keys(scheme.Options):
                known = [f"scheme.options.{key.name} ({name})" for key in options]
                body += self.table(HEAD, [key.cells() for key in options], known)
            if scheme.tables:
                body += self.parse_text_to_nodes(f"Tables that are not given are: {filled(scheme.tables)}.")
            if presets := scheme.presets:
                rows = [[f'`"{preset}"`', filled(given)] for preset, given in presets.items()]
                body += self.table(["`preset`", "keys that are not given are"], rows)
            if scheme.requires:
                needs = [[f"`{key}`", need.needed, need.why] for key, need in in_full(scheme.requires)]
                body += self.table(["key", "it needs", "as it"], needs)
            made.append(self.section(f'`name = "{name}"`', *body, ids=f"scheme-{name}"))
        return made


def filled(given: Any) -> str:
    """Return tables and keys on one line."""
    return "; ".join(
        f"`[{table}]` " + ", ".join(f"`{key} = {value_words(value)}`" for key, value in found.items())
        for table, found in given.items()
    )


class Columns(Reading):
    """A section a table of the trace, with its columns."""

    def run(self) -> list[nodes.Node]:
        made: list[nodes.Node] = []
        for name, columns in (schema.TABLES | {"workers": schema.WORKERS}).items():
            rows = [
                [f"`{key}`", column.dtype.lstrip("<|"), "" if column.units == "1" else column.units,
                 column.description]
                for key, column in columns.items()
            ]  # fmt: skip
            table = self.table(["column", "type", "unit", "meaning"], rows)
            made.append(self.section(f"`/{name}`", *table, ids=f"trace-{name}"))
        return made


def commands(top: argparse.ArgumentParser, path: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield all commands and their parsers, depth first."""
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield f"{path}{name}", below
                yield from commands(below, f"{path}{name} ")


class Commands(Reading):
    """A section a command, with what ``--help`` prints."""

    def run(self) -> list[nodes.Node]:
        made: list[nodes.Node] = []
        os.environ["COLUMNS"] = "92"
        for name, command in commands(parser()):
            text = command.format_help().rstrip()
            block = nodes.literal_block(text, text, language="none")
            made.append(self.section(f"`pdcode {name}`", block, ids="command-" + name.replace(" ", "-")))
        return made


def setup(app: Sphinx) -> dict[str, bool]:
    for name, directive in (
        ("keys", Keys),
        ("schemes", Schemes),
        ("columns", Columns),
        ("commands", Commands),
    ):
        app.add_directive(name, directive)
    return {"parallel_read_safe": True}
