"""Kind "torch": any `torch.nn.Module`, its loss and rows, by name."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import msgspec

from ..config import Count, ProblemTable, kinds
from ..problems import Model, RowSet
from ..problems.function import UserTable
from ..util.errors import InputError
from ..util.packages import pip_install
from .losses import CLASSES, named


class TorchProblem(UserTable, tag="torch"):
    """A module of PyTorch."""

    layered: ClassVar[bool] = True
    needed: ClassVar[tuple[str, ...]] = ("module", "data", "loss")
    paths: ClassVar[tuple[str, ...]] = ("init",)
    references: ClassVar[tuple[str, ...]] = ("module", "data", "loss", "score")
    legacy_values: ClassVar[Mapping[str, Any]] = {
        **UserTable.legacy_values, "factors": False, "frozen_seed": 0,
    }  # fmt: skip

    #: FILE.py:NAME of a class or function that makes the module, or of a module, whose weights are the start
    module: str = ""
    options: dict[str, Any] = msgspec.field(default_factory=dict)  #: keyword arguments by which it is made
    #: function of ``torch.nn.functional``, of outputs and the last array of rows, or FILE.py:NAME of a module
    #: of them, such as ``CrossEntropyLoss()``, or of ``loss(module, *rows)``, the mean over the rows
    loss: str = "cross_entropy"
    #: whether gradients of matrices are computed from factors, read off the graph, where that takes fewer
    #: operations; auto: if both agree on a few rows at the start
    factors: Literal["auto"] | bool = "auto"
    init: str | None = None  #: safetensors file of weights, as of ``state_dict``, from which runs start
    #: seed by which weights that are not trained, and buffers, are made; none: the run's seed
    frozen_seed: Count | None = None

    @property
    def loss_name(self) -> str:
        """Name of the function of ``torch.nn.functional`` that computes the loss; empty if none does."""
        return named(kinds.referenced("problem.loss", self.loss)) if ":" in self.loss else self.loss

    @property
    def sized_by(self) -> str:
        return "module"

    @property
    def has_score(self) -> bool:
        return self.score is not None or self.loss_name in CLASSES

    def of_seed(self, seed: int, before: int | None = None) -> Self:
        return self if self.frozen_seed != before else msgspec.structs.replace(self, frozen_seed=seed)

    @property
    def by_factors(self) -> bool:
        return self.factors is True

    def resolved(self, sample: RowSet) -> tuple[ProblemTable, list[str]]:
        if not self.factors:
            return self, []
        why = self.model().why_not_factored(sample.train)  # type: ignore[attr-defined]
        if why and self.factors is True:
            raise InputError(f"problem.factors: true, but {why}")
        lines = self._own_batches()
        lines += [f"gradients are not computed from factors (problem.factors 'auto'): {why}"] if why else []
        return msgspec.structs.replace(self, factors=not why), lines

    def _own_batches(self) -> list[str]:
        """Describe what is not taken from data loaders."""
        found = None if self.data.endswith(".npz") else kinds.referenced("problem.data", self.data)
        loaders = found if isinstance(found, list | tuple) else (found,)
        sizes = {
            getattr(each, "batch_size", self.batch) for each in loaders[:1] if hasattr(each, "collate_fn")
        }
        return [
            f"problem.data: of the {type(loaders[0]).__name__} the rows are taken; mini-batches have "
            f"problem.batch = {self.batch} of them, not {size}"
            for size in sizes - {self.batch}
        ]

    def model(self) -> Model:
        try:
            from .model import model_of
        except ImportError as error:
            what = f"problem.kind: 'torch' needs PyTorch ({error}): {pip_install('torch', 'safetensors')}"
            raise InputError(what) from None
        return model_of(self)

    def plain(self, found: Any) -> Any:
        from torch import Tensor
        from torch.utils.data import DataLoader, Dataset, default_collate

        if isinstance(found, list | tuple) and found and isinstance(found[0], DataLoader | Dataset):
            return tuple(map(self.plain, found))
        collate: Any = default_collate
        if isinstance(found, DataLoader):
            found, collate = found.dataset, found.collate_fn
        if not isinstance(found, Dataset):
            return found
        if not hasattr(found, "__len__"):
            kind = type(found).__name__
            raise InputError(
                f"problem.data: {kind} has no length; give a data set with one, or arrays of rows"
            )
        rows = collate([found[number] for number in range(len(found))])
        if isinstance(rows, Mapping):  # the last part is the target
            return tuple(rows.values())
        return (rows,) if isinstance(rows, Tensor) else tuple(rows)
