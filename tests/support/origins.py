"""Origins of values in the output of `pdcode run --dry-run`."""

import re

LINE = re.compile(r"^(?!#)(.*?) +# (.*)$", re.MULTILINE)


def removed(text: str) -> str:
    """The text without the comments on lines of keys."""
    return LINE.sub(r"\1", text)


def of(text: str) -> dict[str, str]:
    """Origins of all keys, by their dotted names."""
    found, table = {}, ""
    for line in text.splitlines():
        if line.startswith("["):
            table = line.strip("[]") + "."
        elif matched := LINE.match(line):
            found[table + matched[1].partition(" = ")[0]] = matched[2]
    return found
