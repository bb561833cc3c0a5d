"""Codes from a file: the family "file"."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

import msgspec
from msgspec import Meta

from ...codes import Code
from ...config import CodeTable, Config
from ...trace.reader import TraceReader
from ...util.errors import InputError, ensure_file

Blocks = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class FileTable(CodeTable, tag="file", kw_only=True):
    """A saved code, for layers of as many blocks as it has; a trace may have several codes."""

    adapts: ClassVar[bool] = False
    default_weight: ClassVar[int | None] = None
    paths: ClassVar[tuple[str, ...]] = ("path",)

    #: path of a code that `pdcode codes design -o` or `Code.save` wrote, or of a trace; in a TOML file
    #: relative to its folder, on the command line to the current folder
    path: str
    #: number of blocks k of all layers or of each; 0: as many as the code has; 1: the layer is sent uncoded;
    #: "units": one per hidden unit
    blocks: Blocks | list[Blocks] | Literal["units"] = 0
    #: whether tasks take successive rows; the code's blocks are permuted and its signs redrawn when the rows
    #: run out and, except in `async` mode, after every update
    rotate: bool = True

    @classmethod
    def shared_keys(cls, table: Mapping[str, Any]) -> dict[str, Any]:
        """Keep which layers are coded; the file determines their numbers of blocks."""
        keys = super().shared_keys(table)
        match keys.get("blocks"):
            case [*counts]:
                keys["blocks"] = [count if count == 1 else 0 for count in counts]
            case int() as count if count != 1:
                keys["blocks"] = 0
        return keys

    def completed(self) -> Self:
        if self.blocks == "units" or self.blocks == 1:
            return self
        counts = [self.blocks] if isinstance(self.blocks, int) else self.blocks
        if 0 in counts and len(codes := self._codes()) > 1:
            held = " and ".join(map(str, codes))
            raise InputError(
                f"code.blocks: {self.path} has codes over {held} blocks; give the number for each layer"
            )
        counts = [count or next(iter(codes)) for count in counts]
        return msgspec.structs.replace(self, blocks=counts[0] if isinstance(self.blocks, int) else counts)

    def designs(self, config: Config, needed: Mapping[int, int]) -> dict[int, Code]:
        """Return the code for each number of blocks k, given the codewords per task r of each k."""
        codes, workers = self._codes() if needed else {}, config.workers.count
        for k, r in sorted(needed.items()):
            if k not in codes:
                held = " and ".join(map(str, codes))
                raise InputError(f"code.blocks: {k}: the code in {self.path} is over {held} blocks")
            rows = len(codes[k])
            if not self.rotate and workers * r > rows:
                tasks = f"{workers} workers × {r} a task"
                raise InputError(
                    f"code.path: {self.path} has {rows} codewords, fewer than {tasks}; "
                    "with rotate = true they are redrawn"
                )
        return {k: codes[k] for k in sorted(needed)}

    def _codes(self) -> dict[int, Code]:
        """Read the codes by number of blocks."""
        ensure_file(self.path, "code.path")
        try:
            return {code.blocks: code for code in Code.load_all(self.path).values()}
        except InputError as error:
            raise InputError(f"code.path: {error}") from None


def of_trace(config: Config, trace: TraceReader) -> Config:
    """Return the configuration of a trace's run with codes read from the trace: the file may be missing."""
    if not isinstance(config.code, FileTable) or not trace.code_attributes:
        return config
    return config.with_keys(code={"path": str(trace.path)})
