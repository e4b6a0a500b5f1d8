"""Generations: folders that are there whole or not at all.

    checkpoints/epoch-00003                 the end of epoch 3
                epoch-00004-step-000120     epoch 4 after 120 steps
                    ... its files, stamp.json, SHA256SUMS

A generation is written in a folder of another name, brought to the disk and renamed. SHA256SUMS covers every byte of every file; by hand it is
checked with `sha256sum -c SHA256SUMS`. The stamp says epoch and step, which must be those of the name, and to which run the generation belongs.
"""

import hashlib
import json
import math
import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path

from hpcfilter import faults, pulse
from hpcfilter.errors import Failure, InputError

SUMS, STAMP = "SHA256SUMS", "stamp.json"
_NAME = re.compile(r"epoch-(\d{5,})(?:-step-(\d{6,}))?")


def position(path):
    """(epoch, steps done in it) of a generation, infinitely many at the epoch's end; None for another name."""
    match = _NAME.fullmatch(Path(path).name)
    return match and (int(match[1]), int(match[2]) if match[2] else math.inf)


def ends_epoch(path):
    """Whether a generation was taken at the end of an epoch."""
    return position(path)[1] == math.inf


def generations(folder):
    """The generations in a checkpoints folder, whole or damaged, oldest first. Returns list of Path."""
    return sorted((path for path in Path(folder).glob("epoch-*") if position(path)), key=position)


@contextmanager
def writing(folder, epoch, step, keep):
    """Make a generation: yields the folder to write files into, which is renamed afterwards; then the oldest ones go.

    step: steps done in the epoch, None at its end. keep: generations that stay, and with them always the last that ended an epoch.
    Raises Failure when the disk refuses; the older generations are then untouched.
    """
    final = Path(folder) / (f"epoch-{epoch:05d}" + (f"-step-{step:06d}" if step is not None else ""))
    temporary, old = (final.with_name(f".{final.name}.{end}") for end in ("part", "old"))
    try:
        faults.point("before_save")
        _make_folder(final.parent)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        yield temporary
        (temporary / SUMS).write_text(_sums(temporary))
        for path in [*temporary.iterdir(), temporary]:
            _sync(path)
        faults.point("before_rename", temporary / "model.pt")
        if final.exists():  # a damaged one, which the run has passed over
            os.rename(final, old)
        os.rename(temporary, final)
        _sync(final.parent)
        faults.point("after_rename", final / "model.pt")
        _prune(final, keep)
        faults.point("after_prune")
    except (OSError, RuntimeError) as error:  # torch and h5py raise a RuntimeError on some full disks
        shutil.rmtree(temporary, ignore_errors=True)
        stands = [path.name for path in generations(folder)]
        raise Failure(f"{final}: cannot be saved: {' '.join(str(error).split())}; "
                      f"{f'{stands[-1]} stands' if stands else 'there is no older checkpoint'}") from error


def _make_folder(folder):
    """Make the checkpoints folder, and bring its name to the disk."""
    if not folder.is_dir():
        folder.mkdir(parents=True)
        _sync(folder.parent)


def _prune(newest, keep):
    """Remove what is older than the last `keep` generations, damaged ones that are newer, and what killed saves have left."""
    older = [path for path in generations(newest.parent) if position(path) <= position(newest)]
    stay = {*older[-keep:], *list(filter(ends_epoch, older))[-1:]}
    for path in [*generations(newest.parent), *newest.parent.glob(".epoch-*")]:
        if path not in stay:
            shutil.rmtree(path)


def read_stamp(path):
    """Read and check one generation, all of its bytes. Returns its stamp (dict). Raises InputError naming what is missing or damaged."""
    path = Path(path)
    try:
        said, found = (path / SUMS).read_text().splitlines(keepends=True), _sums(path).splitlines(keepends=True)
        if said != found:
            wrong = sorted({line.split()[-1] for line in {*said} ^ {*found} if line.split()})
            raise InputError(f"{path / (wrong[0] if wrong else SUMS)}: differs from its checksum in {SUMS}; the checkpoint is damaged")
        stamp = json.loads((path / STAMP).read_text())
        if (stamp["epoch"], math.inf if stamp["step"] is None else stamp["step"]) != position(path):
            raise InputError(f"{path}: is the checkpoint of epoch {stamp['epoch']}, step {stamp['step']}, under another name")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a whole checkpoint: {error}") from None
    return stamp


def newest(folder, comm, refuse):
    """The newest generation that is whole and fits, read and checked by rank 0, known to all ranks.

    refuse: function of a stamp that says why this run cannot use it, or "". Returns (path, stamp, passed over: list of str) or
    (None, None, passed over).
    """
    def find():
        passed_over = []
        for path in reversed(generations(folder)):
            try:
                stamp = read_stamp(path)
                if not (problem := refuse(stamp)):
                    return str(path), stamp, passed_over
                passed_over.append(f"{path}: {problem}")
            except InputError as error:
                passed_over.append(str(error))
        return None, None, passed_over

    return comm.on_first(find)


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


def _sums(folder):
    """What SHA256SUMS is to say, in the format of sha256sum."""
    return "".join(f"{_sha256(path)}  {path.name}\n" for path in sorted(folder.iterdir()) if path.name != SUMS)


def _sha256(path):
    state = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(16 << 20):
            state.update(piece)
            pulse.beat()
    return state.hexdigest()


def _sync(path):
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
