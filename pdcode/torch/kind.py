"""Kind "torch": any `torch.nn.Module`, its loss and rows, by name."""

from typing import Any, ClassVar

import msgspec

from ..problems import Model
from ..problems.function import UserTable
from ..util.errors import InputError
from .losses import CLASSES


class TorchProblem(UserTable, tag="torch"):
    """A module of PyTorch, trained by full gradients."""

    needed: ClassVar[tuple[str, ...]] = ("module", "data", "loss")
    paths: ClassVar[tuple[str, ...]] = ("init",)
    references: ClassVar[tuple[str, ...]] = ("module", "data", "loss", "score")

    #: FILE.py:NAME of a class or function that makes the module, or of a module, whose weights are the start
    module: str = ""
    options: dict[str, Any] = msgspec.field(default_factory=dict)  #: keyword arguments by which it is made
    #: function of ``torch.nn.functional``, of outputs and the last array of rows, or FILE.py:NAME of
    #: ``loss(module, *rows)``, the mean over the rows
    loss: str = "cross_entropy"
    init: str | None = None  #: safetensors file of weights, as of ``state_dict``, from which runs start

    @property
    def has_score(self) -> bool:
        return self.score is not None or self.loss in CLASSES

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
