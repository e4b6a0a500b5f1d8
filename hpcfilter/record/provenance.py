"""Where a result comes from: the commit and the versions."""

import importlib.metadata
import platform
from pathlib import Path

PACKAGES = ("hpcfilter", "torch", "numpy", "h5py", "mpi4py", "horovod")


def commit(folder=Path(__file__).parent.parent.parent):
    """The git commit of the checkout that holds hpcfilter, or None outside of one. No process is started."""
    git = folder / ".git"
    try:
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        reference = head.removeprefix("ref: ")
        if (git / reference).exists():
            return (git / reference).read_text().strip()
        packed = (git / "packed-refs").read_text().splitlines()
        return next((line.split()[0] for line in packed if line.endswith(f" {reference}")), None)
    except OSError:
        return None


def versions():
    """Versions of python and of the packages that matter; a missing one is null."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found
