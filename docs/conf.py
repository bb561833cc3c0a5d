"""Sphinx configuration: `make docs`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for reference.py

from pdcode.util.version import __version__

project = "pdcode"
author = "the pdcode authors"
copyright = f"2026, {author}"
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "reference",
]
exclude_patterns = ["_build"]
nitpicky = True
default_role = "literal"  # in docstrings `x` is code

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
suppress_warnings = ["misc.highlighting_failure"]  # quoted code with … between its parts

autodoc_typehints = "none"  # docstrings say types and shapes
autodoc_member_order = "bysource"
autosummary_generate = False
numpydoc_show_class_members = False

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_title = f"pdcode {version}"
html_show_sourcelink = False
html_copy_source = False
