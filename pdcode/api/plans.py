"""`Plan`: the configuration that `pdcode.plan` has found."""

import tomllib
from typing import Any

from ..config.write import to_toml
from ..util import html

BETWEEN = " | "  # between columns of the ranking, in the comments of a plan


class Plan(dict[str, Any]):
    """Tables of the best configuration of a search, for `run`.

    Parameters
    ----------
    text : str
        TOML that ``pdcode plan`` has written.

    Attributes
    ----------
    predicted : str
        Its predicted time, and the predicted time of the user's own configuration.
    price : str
        What the search has cost on the virtual clock.
    repeat : str
        The command that repeats a run of the prediction.
    ranking : list of list of str
        The finalists, best first, after the names of the columns: rank, time to the target, its 95 %
        interval, ratio to the time of the user's own configuration, description.
    """

    def __init__(self, text: str) -> None:
        super().__init__(tomllib.loads(text))
        comments = [line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ")]
        self.predicted, self.price, self.repeat = (
            next((each for each in comments if each.startswith(f"{word}")), "")
            for word in ("Predicted ", "Price: ", "Repeat: ")
        )
        self.ranking = [each.split(BETWEEN) for each in comments if BETWEEN in each]

    def _repr_html_(self) -> str:
        """Return ranking and keys, for notebooks."""
        head, *rows = self.ranking or [[]]
        ranked = html.table(rows, [each == "candidate" for each in head], head)
        keys = f"<details><summary>Keys</summary><pre>{html.text(to_toml(self))}</pre></details>"
        return html.paragraph(self.predicted) + ranked + keys
