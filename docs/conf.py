"""The site: `sphinx-build -W docs OUT`, with the dependency group `docs`."""

import os
import pathlib
import sys

import jaxcam

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import _api_pages

project = "jaxcam"
author = "The jaxcam developers"
copyright = f"2026, {author}"  # noqa: A001  # the name that Sphinx reads
release = version = jaxcam.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
]
root_doc = "index"
# The notebooks are executed from their text; the .ipynb files next to it are what Colab opens.
exclude_patterns = ["_build", "notebooks/*.ipynb"]
# Executed anew only if their code changes: `-D nb_execution_mode=off` builds the site without their pictures.
nb_execution_mode = "cache"
nb_execution_timeout = int(os.environ.get("JAXCAM_NOTEBOOK_SECONDS", "60"))  # for one cell
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "colon_fence", "attrs_inline"]
myst_heading_anchors = 4
# Fragments of other pages are checked by the strict build, by their titles.
suppress_warnings = ["myst.header"]

# Docstrings: single backticks are code, as in Markdown; shapes such as [h w k] are text.
default_role = "code"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
add_module_names = False
python_display_short_literal_types = True
python_maximum_signature_line_length = 88

html_theme = "sphinx_book_theme"
html_title = "jaxcam"
html_static_path = ["_static"]
html_css_files = ["jaxcam.css"]
html_extra_path = ["llms.txt"]
html_theme_options = {
    "show_toc_level": 2,
    "home_page_in_toc": True,
    "show_navbar_depth": 1,
    "use_download_button": False,
}
html_copy_source = False


def setup(app):
    """Docstrings are plain text with code in backticks: what reStructuredText would take for markup is escaped."""
    app.connect("autodoc-process-docstring", lambda *event: _api_pages.escape(event[-1]), priority=100)


_api_pages.write(pathlib.Path(__file__).parent / "api")
