"""`make docs-check`: questions looked up in the built documentation, and all commands and examples run."""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sphinx.search.en import SearchEnglish

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

import documents  # noqa: E402

QUESTIONS = {
    "own hdf5": ("faq", "tutorial"),
    "meaning of weight": ("faq", "choosing", "concepts"),
    "worker slow": ("faq", "tutorial"),
    "which code": ("faq", "schemes", "choosing"),
    "slurm": ("faq", "tutorial"),
    "worker dies": ("faq",),
    "worker hangs": ("faq",),
    "compare two runs": ("faq",),
    "time go": ("faq", "trace"),
    "loss differ": ("faq",),
    "own delays": ("faq", "extending"),
    "own scheme": ("faq", "extending"),
    "blas threads": ("faq", "performance"),
    "pin ranks": ("faq", "performance"),
    "how large data": ("faq", "performance"),
    "resume": ("faq",),
    "bytes task": ("faq",),
    "stop accuracy": ("faq", "configuration"),
    "command not found": ("faq",),
    "staleness": ("concepts", "configuration", "trace"),
    "update.mode": ("configuration",),
    "plan": ("simulator", "tutorial", "commands"),
}
"""Words as a user types them into the search, and pages; one must be among the first results."""

FIRST = 4  # results that a user looks at


class Index:
    """The search index of the HTML pages, asked as Sphinx's page does.

    All words must occur in a page. Words of titles count more than words of the text, parts of words less.
    """

    def __init__(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        self.index: dict[str, Any] = json.loads(text[text.index("{") : text.rindex("}") + 1])
        self.language = SearchEnglish({})

    def search(self, query: str) -> list[str]:
        """Return the names of the pages that a query finds, best first."""
        scores: dict[int, float] = {}
        words = [word for word in re.findall(r"[\w]+", query.lower()) if self.language.word_filter(word)]
        for number, word in enumerate(words):
            found = self._of_word(self.language.stem(word))
            kept = found.keys() if number == 0 else found.keys() & scores.keys()
            scores = {page: scores.get(page, 0.0) + found[page] for page in kept}
        for title, places in self.index["alltitles"].items():
            if all(word in title.lower() for word in words):
                for page, _ in places:
                    scores[page] = scores.get(page, 0.0) + 15.0 * len(query) / max(len(title), len(query))
        ranked = sorted(scores, key=lambda page: -scores[page])
        return [self.index["docnames"][page] for page in ranked]

    def _of_word(self, word: str) -> dict[int, float]:
        scores: dict[int, float] = {}
        for name, whole, part in (("titleterms", 15.0, 7.0), ("terms", 5.0, 2.0)):
            for term, pages in self.index[name].items():
                if word in term and (term == word or len(word) > 2):
                    score = whole if term == word else part
                    for page in pages if isinstance(pages, list) else [pages]:
                        scores[page] = max(scores.get(page, 0.0), score)
        return scores


def look_up() -> int:
    """Look the questions up; return how many found no answer."""
    index, failed = Index(ROOT / "docs" / "_build" / "html" / "searchindex.js"), 0
    for query, wanted in QUESTIONS.items():
        first = index.search(query)[:FIRST]
        found = any(page in first for page in wanted)
        failed += not found
        print(f"{'found ' if found else 'NOT FOUND '} {query}: {', '.join(first) or 'nothing'}", flush=True)
    return failed


def run(names: list[str]) -> int:
    """Run all blocks of documents, each in a folder of its own; return how many documents failed."""
    failed = 0
    for name in names:
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            documents.prepare(folder, smaller=False)
            try:
                runs = any(block.language in ("sh", "pycon") for block in documents.blocks(name))
                if runs and name != "docs/tutorial.md":  # whose first command records it
                    recording = documents.Block(name, 0, "", "sh", "pdcode run jobs/digits.toml")
                    documents.run_shell(recording, folder)
                count = documents.follow(name, folder, long=True)
                print(f"{name}: {count} blocks, {time.monotonic() - start:.0f} s", flush=True)
            except documents.Wrong as error:
                failed += 1
                print(f"{name}: FAILED\n{error}", flush=True)
    return failed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "documents", nargs="*", metavar="DOCUMENT", help="only these; none: questions and all"
    )
    chosen = parser.parse_args().documents
    failed = 0 if chosen else look_up()
    sys.exit(bool(failed + run(chosen or documents.documents())))
