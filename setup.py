"""What pyproject.toml cannot say: the folder jobs/ is installed as a part of the package, and so are the
parts of the page. All else stands there."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["hpcfilter*"]), "hpcfilter.jobs.files"],
    package_dir={"hpcfilter.jobs.files": "jobs"},
    package_data={"hpcfilter.study.report": ["page.html", "page.css", "page.js"], "hpcfilter.jobs.files":
                  ["README.md", "build_horovod.sh", "templates/*", "machines/*", "runs/*", "containers/*"]},
)
