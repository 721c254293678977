"""The documentation site: ``python -m sphinx --fail-on-warning docs build/site``."""

import sparseacc

project = "sparseacc"
author = "the sparseacc developers"
version = release = sparseacc.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinxcontrib.mermaid",
]
nitpicky = True  # a name in the text that leads nowhere is an error
nitpick_ignore_regex = [("py:obj", ".*")]  # one pair of backticks makes a link where there is something to link to
default_role = "autolink"

myst_enable_extensions = ["dollarmath"]
myst_fence_as_directive = ["mermaid"]
myst_heading_anchors = 4

autodoc_default_options = {"members": True, "special-members": "__call__"}
autodoc_typehints = "none"  # numpydoc's sections have the types in words
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]  # wide enough for the lines of the examples
html_title = f"sparseacc {release}"
html_show_copyright = False
html_theme_options = {"top_of_page_buttons": [], "light_css_variables": {"code-font-size": "78%"}}
