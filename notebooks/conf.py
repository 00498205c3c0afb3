"""The site: `pip install '.[docs]' && sphinx-build -W -b html notebooks build/site`, which needs no network."""

import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_sphinx")]

from reference import PAGES, about, groups  # noqa: E402

import jaxplain  # noqa: E402

settings = tomllib.loads((HERE.parent / "pyproject.toml").read_text("utf-8"))

project = "jaxplain"
author = settings["project"]["authors"][0]["name"]
project_copyright = author
version = release = jaxplain.__version__
language = "en"

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "myst_nb",
    "cards",
    "equations",
    "reference",
]
templates_path = ["_sphinx/templates"]
exclude_patterns = ["_sphinx/*"]

# Notebooks are shown with the outputs they have; `pytest --nbmake notebooks` runs them.
nb_execution_mode = "off"
myst_enable_extensions = ["dollarmath", "attrs_block", "fieldlist"]
myst_heading_anchors = 3
html_math_renderer = "mathml"

default_role = "py:obj"
autodoc_typehints = "none"  # the signatures have them in the source; the texts say shapes
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_preserve_defaults = True
autosummary_generate = True
autosummary_context = {"about": {page: about(page) for page in PAGES}, "groups": {page: groups(page) for page in PAGES}}
napoleon_custom_sections = ["Reference"]
napoleon_use_rtype = False
napoleon_preprocess_types = False
napoleon_google_docstring, napoleon_numpy_docstring = True, False
add_module_names = False
toc_object_entries = False

html_theme = "furo"
html_title = f"jaxplain {version}"
html_static_path = ["_sphinx/static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
if ".example/" not in (repository := settings["project"]["urls"]["Repository"]):  # a placeholder until there is one
    html_theme_options |= {"source_repository": repository, "source_branch": "main", "source_directory": "notebooks/"}
