"""What pyproject.toml cannot say: the folder jobs/ is installed as a part of the package, and so are the parts of the page.
All else stands there."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["hpcfilter*"]), "hpcfilter.jobs"],
    package_dir={"hpcfilter.jobs": "jobs"},
    package_data={"hpcfilter.report": ["page.html", "page.css", "page.js"],
                  "hpcfilter.jobs": ["README.md", "build_horovod.sh", "templates/*", "machines/*", "runs/*", "examples/*"]},
)
