"""How Sphinx builds these pages: ``make docs``."""

from crkd import __version__

project = "crkd"
release = __version__
copyright = "the authors of crkd"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"

html_theme = "furo"
html_title = "crkd"
html_show_sphinx = False
