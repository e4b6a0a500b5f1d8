"""Atomic generations of a run: weights, optimiser and what is known of every sample, by global index.

    checkpoints/epoch-00003/model.pt     weights and optimiser; loaded with weights_only
                            scores.h5    the columns of Scores, (N,) each
                            stamp.json   epoch, ranks, digests of the data, of the model and of the two files

A generation is written in a folder of another name, brought to the disk and renamed: it is there whole or not at all. The state of the
samples carries no trace of the number of ranks, so any other number can resume.
"""

import hashlib
import json
import os
import pickle
import re
import shutil
from pathlib import Path

import torch

from hpcfilter.data import read_table, write_table
from hpcfilter.errors import InputError

_FILES = ("model.pt", "scores.h5")


def save(folder, epoch, network, optimizer, scores, comm, keep, **stamp):
    """Write the generation of a finished epoch, then drop the oldest ones. All ranks must call; rank 0 writes.

    folder: the run's checkpoints folder. keep: generations that stay. stamp: what else the stamp is to say, JSON-able.
    Raises OSError on rank 0 when the disk refuses; the older generations are then untouched.
    """
    columns = {name: (array.dtype, comm.gather(array)) for name, array in scores.columns().items()}
    if comm.rank == 0:
        final = Path(folder) / f"epoch-{epoch:05d}"
        temporary = final.with_name(f".{final.name}.part")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        torch.save({"model": network.model.state_dict(), "optimizer": optimizer.state_dict()}, temporary / "model.pt")
        write_table(temporary / "scores.h5", scores.total, columns, {"epoch": epoch})
        digests = {name: _sha256(temporary / name) for name in _FILES}
        stamp = {"epoch": epoch, "ranks": comm.size, "model": network.fingerprint(), "files": digests, **stamp}
        (temporary / "stamp.json").write_text(json.dumps(stamp, indent=1))
        for path in [*temporary.iterdir(), temporary]:
            _sync(path)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(temporary, final)
        _sync(final.parent)
        older = [path for path in generations(folder) if path.name <= final.name]
        for path in generations(folder):
            if path not in older[-keep:]:  # an old one, or a damaged one that a resumed run has passed over
                shutil.rmtree(path)
    comm.barrier()


def generations(folder):
    """The finished generations in a checkpoints folder, oldest first. Returns list of Path."""
    return sorted(path for path in Path(folder).glob("epoch-*") if re.fullmatch(r"epoch-\d{5,}", path.name) and (path / "stamp.json").exists())


def newest(folder, comm):
    """The newest generation that is whole, read and checked by rank 0, known to all ranks.

    Returns (path, stamp, passed over: list of str) or (None, None, passed over).
    """
    def find():
        broken = []
        for path in reversed(generations(folder)):
            try:
                return str(path), read_stamp(path), broken
            except InputError as error:
                broken.append(str(error))
        return None, None, broken

    return comm.on_first(find)


def read_stamp(path):
    """Read and check one generation. Returns its stamp (dict). Raises InputError naming the file that is missing or damaged."""
    path = Path(path)
    try:
        stamp = json.loads((path / "stamp.json").read_text())
        for name in _FILES:
            if _sha256(path / name) != stamp["files"][name]:
                raise InputError(f"{path / name}: differs from its checksum in stamp.json; the checkpoint is damaged")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a whole checkpoint: {error}") from None
    return stamp


def check(stamp, path, **expected):
    """Raise InputError unless the stamp says what is expected: the digests of the model and the data of the run that wants to use it."""
    for key, value in expected.items():
        if stamp.get(key) != value:
            raise InputError(f"{path}: got a checkpoint of {key} {stamp.get(key)}, expected {value}; it belongs to another {key}")


def check_settings(stamp, path, settings):
    """Raise InputError unless a run that resumes has the settings it began with. settings: flat dict, as Config.fixed gives it."""
    then = stamp.get("settings", {})
    for key in sorted({*then, *settings}):
        if then.get(key) != settings.get(key):
            raise InputError(f"{path}: {key}: the run began with {then.get(key)}, got {settings.get(key)}; --resume goes on as it began")


def load(path, network, comm, optimizer=None, scores=None):
    """Put a generation in place: weights, and the optimiser's state and the owned samples' scores when they are given. All ranks must call.

    Rank 0 reads the weights for all; every rank reads the rows that it owns. Raises InputError on all ranks when something does not fit.
    """
    state = comm.on_first(lambda: _read_model(path))
    with comm.together():
        try:
            network.model.load_state_dict(state["model"])
            if optimizer is not None:
                optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, KeyError, ValueError) as error:
            raise InputError(f"{path}: does not fit: {' '.join(str(error).split())[:300]}") from None
        if scores is not None:
            _load_scores(path, scores)


def _read_model(path):
    file = Path(path) / "model.pt"
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(f"{file}: cannot be loaded: {' '.join(str(error).split())[:300]}") from None


def _load_scores(path, scores):
    columns, _, rows = read_table(Path(path) / "scores.h5", scores.owned)
    if rows != scores.total:
        raise InputError(f"{path}: got {rows} samples, expected {scores.total}")
    try:
        scores.restore(columns)
    except KeyError as error:
        raise InputError(f"{path}: {error.args[0]}") from None


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path):
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
