"""The site of these pages: Sphinx reads the Markdown as it stands here. `make docs` builds it, and
a warning is an error."""

project = "hpcfilter"
author = "the hpcfilter developers"
copyright = "the hpcfilter developers"
extensions = ["myst_parser"]
html_theme = "furo"
highlight_language = "text"  # of blocks that name none: commands, and what they print
html_title = "hpcfilter"
html_static_path = ["style"]
html_css_files = ["site.css"]
exclude_patterns = ["_build"]
myst_heading_anchors = 4  # a link to #a-heading works as it does where the Markdown is read without a build
myst_enable_extensions = ["html_image"]
suppress_warnings = ["toc.empty_glob"]
html_show_sphinx = False
