"""What pyproject.toml cannot say: the folder jobs/ is installed as a part of the package. All else stands there."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["hpcfilter*"]), "hpcfilter.jobs"],
    package_dir={"hpcfilter.jobs": "jobs"},
    package_data={"hpcfilter.jobs": ["README.md", "build_horovod.sh", "templates/*", "machines/*", "runs/*", "examples/*"]},
)
