"""Settings of Sphinx; ``build.py`` makes the sources that it reads."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

project = "msgan"
author = "The msgan authors"
copyright = "The msgan authors, Apache-2.0"
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_nb", "site_links"]
root_doc = "index"
exclude_patterns = ["files"]

nb_execution_mode = "off"
nb_ipywidgets_js: dict[
    str, dict[str, str]
] = {}  # controls need a kernel, and a script from elsewhere
nb_merge_streams = True
myst_enable_extensions = ["attrs_block"]
myst_heading_anchors = 4
suppress_warnings = ["mystnb.mime_priority"]

autodoc_member_order = "bysource"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
# Only public names of this package are in this site: others are shown without a link.
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(?!msgan\.).*|.*\._.*")]

smartquotes = False  # -- begins an option
html_theme = "furo"
html_title = "msgan"
html_static_path = [str(HERE / "static")]
html_css_files = ["site.css"]
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
# Python alone: the lexer takes commands and layouts for it.
highlight_language = "text"
pygments_style = "tango"


def setup(app):
    """Tables in documents are shown as they are."""
    from pygments.lexers.special import TextLexer

    app.add_lexer("csv", TextLexer)
