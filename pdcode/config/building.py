"""Tables of the configuration that come in kinds: built from their keys, which are checked, with messages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain
from typing import Any, ClassVar, Literal, Self, TypeVar, get_args, get_origin, get_type_hints

import msgspec
import msgspec.inspect

from ..util import units
from ..util.errors import InputError, did_you_mean, expected, short_repr, shorten
from ..util.formats import listing
from . import kinds
from .fields import Table

TYPES = {
    "object": "table",
    "array": "list",
    "str": "text",
    "int": "integer",
    "float": "number",
    "bool": "true or false",
}
"""Type in a message of msgspec -> a user's word for it."""

Struct = TypeVar("Struct")


whole: list[type[msgspec.Struct]] = []
"""The class of the whole configuration, from `config.schema`, which imports this."""


class Kind(Table):
    """Base class of the configuration tables that come in kinds.

    Attributes
    ----------
    table : str
        Name of the table.
    group : str
        Key of `kinds.KINDS`; the entry point group is ``pdcode.<group>``.
    default : str
        Name of the kind of a table that names none.
    paths : tuple of str
        Keys that are paths of files to read; in a TOML file they are relative to its folder.
    references : tuple of str
        Keys that are FILE.py:NAME, of an object in a Python file that becomes a plug-in, or npz files; a kind
        may allow single words.
    legacy_values : dict
        Values of newer keys for traces that lack them.
    legacy_keys : dict
        Defaults of keys that all kinds had up to version 0.1; with these values they are ignored.
    nested : dict
        Keys whose values are tables that come in kinds, and their base classes.
    """

    table: ClassVar[str]
    group: ClassVar[str]
    default: ClassVar[str]
    paths: ClassVar[tuple[str, ...]] = ()
    references: ClassVar[tuple[str, ...]] = ()
    legacy_values: ClassVar[Mapping[str, Any]] = {}
    legacy_keys: ClassVar[Mapping[str, Any]] = {}
    nested: ClassVar[Mapping[str, type[Kind]]] = {}

    @classmethod
    def of(cls, table: Any) -> Self:
        """Build the kind that a table names, from the table's keys."""
        if not isinstance(table, Mapping):
            tag = cls.__struct_config__.tag_field
            raise InputError(f"{cls.table}: expected table, such as {{{tag} = …}} (got {short_repr(table)})")
        kind, tag_field = cls.named(table), str(cls.__struct_config__.tag_field)
        if kind is None:
            raise InputError(f"{cls.table}.{tag_field}: {expected(table[tag_field], kinds.names(cls.group))}")
        fields = kind.__struct_fields__
        ignored = {tag_field, *(key for key, value in cls.legacy_keys.items() if table.get(key) == value)}
        keys = {key: value for key, value in table.items() if key in fields or key not in ignored}
        name = table.get(tag_field) or cls.default
        refuse_keys_of_others(cls.table, keys, kind, f"{tag_field} {name!r}", cls.members())
        others = chain.from_iterable(each.__struct_fields__ for _, each in cls.members())
        built: Self = build(kind, keys, cls.table, others)
        inner = {key: base.of(table[key]) for key, base in kind.nested.items() if table.get(key) is not None}
        return msgspec.structs.replace(built, **inner) if inner else built

    @classmethod
    def named(cls, table: Mapping[str, Any]) -> Any:
        """Return the class of the kind that a table names, or None."""
        name = table.get(str(cls.__struct_config__.tag_field))
        return cls.find(cls.default if name is None else name)

    @classmethod
    def find(cls, name: Any) -> Any:
        """Return the class of the kind with this name, or None."""
        return kinds.find(cls.group, name)

    @classmethod
    def members(cls) -> Iterator[tuple[str, Any]]:
        """Yield name and class of all kinds of the table that can be imported."""
        return kinds.members(cls.group)

    @classmethod
    def name_of(cls) -> str:
        """Name of the kind; empty for a base class."""
        return str(cls.__struct_config__.tag or "")

    @classmethod
    def shared_keys(cls, table: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keys of a table of another kind that this kind has, too."""
        tag = cls.__struct_config__.tag_field
        return {key: value for key, value in table.items() if key == tag or key in cls.__struct_fields__}

    def completed(self) -> Self:
        """Return the kind with the keys that follow from its files."""
        return self

    @property
    def kind(self) -> str:
        """Name of the kind."""
        return self.name_of()

    def check_config(self, config: Any) -> None:
        """Refuse a configuration in which this kind cannot work, by an `InputError` naming key and value."""

    def describe(self) -> str:
        """Return the kind and its keys, as one line of text."""
        keys = [(key, getattr(self, key)) for key in self.__struct_fields__]
        described = [
            f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in keys
            if value is not None
        ]
        return f"{self.kind} ({', '.join(described)})" if described else self.kind


def field(base: type[Kind]) -> Any:
    """Return a field of `Config` whose default is the default kind of the table."""
    return msgspec.field(default_factory=lambda: base.of({}))


def refuse_keys_of_others(
    where: str, table: Mapping[str, Any], own: Any, kind: str, others: Iterable[tuple[str, Any]]
) -> None:
    """Refuse a key of a table that only other kinds have, and name these.

    `own` is the struct of the table's kind, and `kind` describes it; `others` are names and structs.
    """
    unknown = next((key for key in table if key not in own.__struct_fields__), None)
    if unknown is None:
        return
    if having := [repr(name) for name, each in others if unknown in each.__struct_fields__]:
        raise InputError(
            f"{where}.{unknown}: {kind} has no such key (value {short_repr(table[unknown])}); "
            f"{listing(having)} {'has' if len(having) == 1 else 'have'} it"
        )


def build(struct: type[Struct], table: Any, where: str = "", others: Iterable[str] = ()) -> Struct:
    """Convert a table to a struct.

    `where` is its name, for messages, empty for the whole configuration; `others` are keys of other kinds,
    which may have been meant. Times, rates and sizes may be text with a unit.
    """
    try:
        return msgspec.convert(table, struct)
    except msgspec.ValidationError as error:
        plain = _without_units(msgspec.inspect.type_info(struct), table)
        if plain == table:
            raise InputError(_explain(str(error), struct, table, where, others)) from None
    try:
        return msgspec.convert(plain, struct)
    except msgspec.ValidationError as error:
        raise InputError(_explain(str(error), struct, table, where, others)) from None


def _without_units(kind: Any, value: Any) -> Any:
    """Return a value of a type with plain numbers in place of text with a unit; other text stays."""
    if isinstance(value, Mapping):
        inner = {
            field.encode_name: field.type for each in _types(kind) for field in getattr(each, "fields", ())
        }
        return {
            key: _without_units(inner[key], each) if key in inner else each for key, each in value.items()
        }
    if isinstance(value, list):
        items = [item for each in _types(kind) if (item := getattr(each, "item_type", None)) is not None]
        return [_without_units(items[0], each) for each in value] if items else value
    if isinstance(value, str) and (quantity := _quantity(kind)):
        with suppress(ValueError):
            return units.number(value, quantity)
    return value


def quantities(struct: Any) -> dict[str, str]:
    """Return the keys of a table that are times, rates or sizes, with which of these."""
    info: Any = msgspec.inspect.type_info(struct)
    return {field.encode_name: found for field in info.fields if (found := _quantity(field.type))}


def _types(kind: Any) -> list[Any]:
    """Return the members of a union of types, without marks."""
    if isinstance(kind, msgspec.inspect.Metadata):
        return _types(kind.type)
    return [*chain(*map(_types, kind.types))] if isinstance(kind, msgspec.inspect.UnionType) else [kind]


def _quantity(kind: Any) -> str:
    """Return what a type is a number of, see `fields.TIME`; empty for other types."""
    if isinstance(kind, msgspec.inspect.UnionType):
        return next(filter(None, map(_quantity, kind.types)), "")
    return str((kind.extra or {}).get("quantity", "")) if isinstance(kind, msgspec.inspect.Metadata) else ""


def _explain(message: str, struct: Any, table: Any, where: str, others: Iterable[str]) -> str:
    """Reword a message of msgspec in the form of pdcode's.

    ``Expected `int`, got `str` - at `$.blocks``` becomes ``code.blocks: expected integer (got 'four')``.
    """
    at = re.search(r" - at `\$([^`]*)`$", message)
    text = message[: at.start()] if at else message
    if named := re.match(r"Expected `([^`]*)`", text):
        types = ", ".join(TYPES.get(each, each) for each in named[1].split(" | ") if each != "null")
        text = text.partition(", got ")[0].replace(named[1], " or ".join(types.rsplit(", ", 1)))
    text = text.replace("`", "")
    path = [part for part in re.sub(r"\[[^]]*\]", "", at[1] if at else "").split(".") if part]
    value, holder, kind = table, struct, msgspec.inspect.type_info(struct)
    for key in path:
        value = value.get(key) if isinstance(value, dict) else value  # an index keeps the list
        fields = chain(*(getattr(each, "fields", ()) for each in _types(kind)))
        kind = next((field.type for field in fields if field.encode_name == key), kind)
    if quantity := _quantity(kind):
        text = _in_units(text, quantity)
    missing = text.startswith("Object missing required field")
    if missing or text.startswith("Object contains unknown field"):
        for key in path:
            holder = get_type_hints(holder)[key]
        known = holder.__struct_fields__
        name = text.split()[-1] if missing else next(key for key in value if key not in known)
        key = ".".join(filter(None, (where, *path, shorten(name))))
        if missing:
            as_what = quantities(holder).get(name)
            return f"{key}: must be given" + (f", as a {units.described(as_what)}" if as_what else "")
        tag = holder.__struct_config__.tag_field
        tagged = [f"{tag} ({holder.name_of()})"] if tag else []
        listed = ", ".join([*tagged, *known]) or "none"
        meant = did_you_mean(name, known) or did_you_mean(name, others) or _elsewhere(name, where)
        meant = meant or next((hint for words, hint in NO_KEYS.items() if name.lower() in words.split()), "")
        if "epoch" in name and meant.endswith("updates'?"):
            meant += " (an epoch is rows / problem.batch gradients; an update of all workers has one of each)"
        return f"{key}: unknown key (value {short_repr(value[name])}); known: {listed}{meant}"
    if text.startswith("Invalid enum value"):
        for key in path[:-1]:
            holder = get_type_hints(holder)[key]
        hint = get_type_hints(holder)[path[-1]]
        real = [f"any {TYPES[each.__name__]}" for each in get_args(hint) if each in (int, float)]
        choices = [*real, *["true", "false"] * (bool in get_args(hint)), *map(str, _choices(hint))]
        return f"{'.'.join(filter(None, (where, *path)))}: {expected(value, choices)}"
    key = ".".join(filter(None, (where, *path)))
    got = f"{text[:1].lower()}{text[1:]} (got {short_repr(value)})"
    return f"{key}: {got}{_cure(text, value, kind, key)}"


def _cure(text: str, value: Any, kind: Any, key: str) -> str:
    """Return how a value of the wrong type or size was probably meant, to end a message."""
    fields = [field.encode_name for each in _types(kind) for field in getattr(each, "fields", ())]
    if text == "Expected table" and fields:
        return f"; its keys are set as in {key}.{fields[0]}=…"
    if "integer" in text and isinstance(value, float) and value.is_integer():
        return f"; write {value:.0f}"
    items = [item for each in _types(kind) if (item := getattr(each, "item_type", None)) is not None]
    if text == "Expected list" and items and not isinstance(items[0], msgspec.inspect.AnyType):
        return f"; write [{msgspec.json.encode(value).decode()}]"
    percent = value.removesuffix("%") if isinstance(value, str) else value
    if text in ("Expected number", "Expected number <= 1.0", "Expected number < 1.0"):
        with suppress(TypeError, ValueError):
            if 1 < float(percent) <= 100:
                return f"; {float(percent):g} % is {float(percent) / 100:g}"
    return ""


ELSEWHERE = 0.85  # least similarity of an unknown key to a key of another table that is suggested


NO_KEYS = {
    "device devices gpu gpus cuda accelerator": "; there is no such key, as ranks compute on CPUs",
    "threads num_threads n_threads n_jobs": "; OMP_NUM_THREADS has the number of a rank's threads",
}
"""Words of other programs for what is no key -> the end of a message."""


def _elsewhere(name: str, where: str) -> str:
    """Return the end of a message about an unknown key that is another table, or that another table has."""
    if where and name in whole[0].__struct_fields__:
        return f"; {name} is no key of [{where}]: it stands above that line"
    found = meant_key(name)
    return f"; did you mean {found!r}?" if found else ""


def meant_key(name: str) -> str:
    """Return the key, with its table, that is meant by a name alone; empty if none is like it."""
    (config,) = whole
    order = dict.fromkeys(("stop", "workers", "problem", *config.__struct_fields__))
    tables = [(key, getattr(config(), key)) for key in order]
    keys = [(key, each) for key, table in tables for each in getattr(table, "__struct_fields__", ())]
    for key, table in tables:
        others = table.members() if isinstance(table, Kind) else ()
        keys += [(key, each) for _, kind in others for each in kind.__struct_fields__]
    meant = did_you_mean(name, [each for _, each in keys], ELSEWHERE)
    return next((f"{key}.{each}" for key, each in keys if meant.endswith(f" {each!r}?")), "")


def _in_units(text: str, quantity: str) -> str:
    """Reword "Expected number" and its bounds as a quantity with its unit."""
    found = re.fullmatch(r"Expected (?:number|integer)(?: ([<>]=?) (\S+))?", text)
    if found is None:
        return text
    if found[1] is None:
        return f"Expected a {units.described(quantity)}"
    return f"Expected a {quantity} {found[1]} {float(found[2]):.15g} {units.QUANTITIES[quantity].unit}"


def _choices(hint: Any) -> list[Any]:
    """Return the values of an enumeration; empty for other types."""
    hints = [hint, *get_args(hint), *(inner for outer in get_args(hint) for inner in get_args(outer))]
    return next((list(get_args(each)) for each in hints if get_origin(each) is Literal), [])
