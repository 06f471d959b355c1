"""Sphinx configuration; ``make docs`` builds the pages."""

from crkd import __version__

project = "crkd"
release = __version__
copyright = "2026, The crkd developers"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"

html_theme = "furo"
html_title = "crkd"
html_show_sphinx = False
