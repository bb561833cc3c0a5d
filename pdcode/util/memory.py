"""Memory that this process may use, to refuse sizes in files and configurations that exceed it."""

import os
import resource
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from .errors import InputError

CGROUPS = Path("/sys/fs/cgroup")
MAX_COMPRESSION = 1040  # largest ratio of gzip's compression


def ensure_fits(key: str, what: str, size: int) -> None:
    """Refuse `size` bytes if they exceed the memory that this process may use.

    The message names the `key` of the configuration, or another place, and `what` needs the memory.
    """
    if size > limit_bytes():
        need, most = _gib(size), _gib(limit_bytes())
        raise InputError(f"{key}: {what} would need {need} of memory, but at most {most} may be used here")


@cache
def limit_bytes() -> int:
    """Return the smallest of physical memory, the limits of the process's cgroups, and ``ulimit -v``.

    Of the last one, which counts addresses, libraries take a large part; it is the rest at the first call.
    """
    page = os.sysconf("SC_PAGE_SIZE")
    limits = [os.sysconf("SC_PHYS_PAGES") * page, *_cgroup_limits()]
    used = Path("/proc/self/statm").read_bytes().split()
    for which, pages in ((resource.RLIMIT_AS, used[0]), (resource.RLIMIT_DATA, used[5])):
        soft, _ = resource.getrlimit(which)
        limits += [max(0, soft - int(pages) * page)] if soft != resource.RLIM_INFINITY else []
    return min(limits)


def _cgroup_limits() -> Iterator[int]:
    """Yield the memory limits of the cgroups, version 1 or 2, that hold this process."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root, name = (CGROUPS / "memory", "memory.limit_in_bytes") if controllers else (CGROUPS, "memory.max")
        inner = root / path.lstrip("/")
        for folder in (inner, *inner.parents[: len(inner.parents) - len(root.parents)]):
            try:
                text = (folder / name).read_text().strip()
            except OSError:  # a container may show its cgroup as the root
                continue
            if text != "max":
                yield int(text)


def _gib(size: int) -> str:
    return f"{min(size, 2**100) / 2**30:,.4g} GiB"  # a larger integer may not fit into a float
