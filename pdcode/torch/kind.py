"""Kind "torch": any `torch.nn.Module`, its loss and rows, by name."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import msgspec

from ..config import ProblemTable
from ..problems import Model, RowSet
from ..problems.function import UserTable
from ..util.errors import InputError
from .losses import CLASSES


class TorchProblem(UserTable, tag="torch"):
    """A module of PyTorch."""

    needed: ClassVar[tuple[str, ...]] = ("module", "data", "loss")
    paths: ClassVar[tuple[str, ...]] = ("init",)
    references: ClassVar[tuple[str, ...]] = ("module", "data", "loss", "score")
    legacy_values: ClassVar[Mapping[str, Any]] = {**UserTable.legacy_values, "factors": False}

    #: FILE.py:NAME of a class or function that makes the module, or of a module, whose weights are the start
    module: str = ""
    options: dict[str, Any] = msgspec.field(default_factory=dict)  #: keyword arguments by which it is made
    #: function of ``torch.nn.functional``, of outputs and the last array of rows, or FILE.py:NAME of
    #: ``loss(module, *rows)``, the mean over the rows
    loss: str = "cross_entropy"
    #: whether gradients of matrices are computed from factors, read off the graph, where that takes fewer
    #: operations; auto: if both agree on a few rows at the start
    factors: Literal["auto"] | bool = "auto"
    init: str | None = None  #: safetensors file of weights, as of ``state_dict``, from which runs start

    @property
    def has_score(self) -> bool:
        return self.score is not None or self.loss in CLASSES

    @property
    def by_factors(self) -> bool:
        return self.factors is True

    def resolved(self, sample: RowSet) -> tuple[ProblemTable, list[str]]:
        if not self.factors:
            return self, []
        why = self.model().why_not_factored(sample.train)  # type: ignore[attr-defined]
        if why and self.factors is True:
            raise InputError(f"problem.factors: true, but {why}")
        lines = [f"gradients are not computed from factors (problem.factors 'auto'): {why}"] if why else []
        return msgspec.structs.replace(self, factors=not why), lines

    def model(self) -> Model:
        try:
            from .model import model_of
        except ImportError as error:
            what = f"problem.kind: 'torch' needs PyTorch: pip install 'pdcode[torch]' ({error})"
            raise InputError(what) from None
        return model_of(self)

    def plain(self, found: Any) -> Any:
        from torch.utils.data import Dataset, default_collate

        if isinstance(found, tuple) and found and isinstance(found[0], Dataset):
            return tuple(map(self.plain, found))
        if isinstance(found, Dataset):
            return tuple(default_collate([found[number] for number in range(len(found))]))
        return found
