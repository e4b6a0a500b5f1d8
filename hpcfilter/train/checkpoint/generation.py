"""Generations: folders that are there whole or not at all.

    checkpoints/epoch-00003                 the end of epoch 3
                epoch-00004-step-000120     epoch 4 after 120 steps
                    ... its files, stamp.json, SHA256SUMS

A generation is written in a folder of another name, brought to the disk and renamed. SHA256SUMS covers every
byte of every file; by hand it is checked with `sha256sum -c SHA256SUMS`. The stamp says epoch and step, which
must be those of the name, and to which run the generation belongs.
"""

import errno
import hashlib
import json
import math
import os
import re
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path

from hpcfilter.base.alive import faults, pulse
from hpcfilter.base.errors import Failure, InputError
from hpcfilter.base.paths import trouble

SUMS, STAMP = "SHA256SUMS", "stamp.json"
FORMAT = 2  # of what a generation holds
# other OSErrors are the disk's, not the file's
DAMAGE = (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError, KeyError, TypeError)
_NAME = re.compile(r"epoch-(\d{5,})(?:-step-(\d{6,}))?")


def position(path):
    """(epoch, steps done in it) of a generation, infinitely many at the epoch's end; None
    for another name."""
    match = _NAME.fullmatch(Path(path).name)
    return match and (int(match[1]), int(match[2]) if match[2] else math.inf)


def ends_epoch(path):
    """Whether a generation was taken at the end of an epoch."""
    return position(path)[1] == math.inf


def generations(folder):
    """The generations in a checkpoints folder, whole or damaged, oldest first; none without the folder.
    Returns list of Path. Raises OSError."""
    try:
        return sorted((path for path in Path(folder).iterdir() if position(path)), key=position)
    except (FileNotFoundError, NotADirectoryError):
        return []


@contextmanager
def writing(folder, epoch, step, keep):
    """Make a generation: yields the folder to write files into, which is renamed afterwards;
    then the oldest ones go.

    step: steps done in the epoch, None at its end. keep: generations that stay, and with them always the last
    that ended an epoch. Raises Failure when the disk refuses; the older generations are then untouched.
    """
    final = Path(folder) / (f"epoch-{epoch:05d}" + (f"-step-{step:06d}" if step is not None else ""))
    temporary, old = (final.with_name(f".{final.name}.{end}") for end in ("part", "old"))
    try:
        faults.point("before_save")
        _make_folder(final.parent)
        _remove(temporary)
        _remove(old)
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
    except (OSError, RuntimeError) as error:  # torch and h5py raise a RuntimeError on some full disks
        _remove(temporary)
        raise Failure(f"{final}: cannot be saved: {' '.join(str(error).split())}; "
                      f"{_standing(folder)}") from error
    _prune(final, keep)
    faults.point("after_prune")


def _standing(folder):
    """What there is to go on from when a save has failed, in words."""
    try:
        stands = [path.name for path in generations(folder)]
    except OSError as error:
        return f"{folder}: {error.strerror}"
    return f"{stands[-1]} stands" if stands else "there is no older checkpoint"


def _make_folder(folder):
    """Make the checkpoints folder, and bring its name to the disk."""
    if not folder.is_dir():
        folder.mkdir(parents=True)
        _sync(folder.parent)


def _prune(newest, keep):
    """Remove what is older than the last `keep` generations, damaged ones that are newer, and
    what killed saves have left.

    Under another name first: what has the name of a generation is whole. What cannot be removed now is tried
    again after the next save.
    """
    older = [path for path in generations(newest.parent) if position(path) <= position(newest)]
    stay = {*older[-keep:], *list(filter(ends_epoch, older))[-1:]}
    for path in set(generations(newest.parent)) - stay:
        with suppress(OSError):
            os.rename(path, path.with_name(f".{path.name}.old"))
    for path in newest.parent.glob(".epoch-*"):
        _remove(path)


def _remove(path):
    """Remove a file or a folder, or what of it can be removed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def read_stamp(path):
    """Read and check one generation, all of its bytes. Returns its stamp (dict).

    Raises InputError naming what is missing or damaged, Failure when the disk does not answer: then nothing
    can be said of the generation.
    """
    path = Path(path)
    try:
        said, found = ((path / SUMS).read_text().splitlines(keepends=True),
                       _sums(path).splitlines(keepends=True))
        if said != found:
            wrong = sorted({line.split()[-1] for line in {*said} ^ {*found} if line.split()})
            raise InputError(f"{path / (wrong[0] if wrong else SUMS)}: differs from its checksum in {SUMS}; "
                             "the checkpoint is damaged")
        stamp = json.loads((path / STAMP).read_text())
        if stamp["format"] != FORMAT:
            raise InputError(f"{path}: a checkpoint of format {stamp['format']}, expected {FORMAT}")
        if (stamp["epoch"], math.inf if stamp["step"] is None else stamp["step"]) != position(path):
            raise InputError(f"{path}: is the checkpoint of epoch {stamp['epoch']}, step {stamp['step']}, "
                             "under another name")
    except DAMAGE as error:
        lacks = isinstance(error, FileNotFoundError)
        raise InputError(
            f"{path}: not a whole checkpoint: "
            f"{f'{Path(error.filename).name} is missing' if lacks else 'it is damaged'}") from error
    except OSError as error:
        raise Failure(f"{path}: cannot be read: {error}") from None
    return stamp


def glance(folder):
    """What the newest generation in a checkpoints folder says of itself, not believed but read at a glance.
    Returns (path, stamp), or (None, None) where there is none that can be read: whether others can, and are
    whole, the run itself will see."""
    with suppress(OSError, ValueError, IndexError):
        path = generations(folder)[-1]
        return path, json.loads((path / STAMP).read_text())
    return None, None


def of_epoch(run_dir, epoch=None):
    """The generation of a run that ended an epoch, checked: inside one each rank has buffers of its own.
    epoch: which one, default the newest.

    Returns (path, stamp). Raises InputError when there is none, and as `read_stamp`.
    """
    try:
        found = {position(path)[0]: path for path in generations(Path(run_dir) / "checkpoints")
                 if ends_epoch(path)}
    except OSError as error:
        raise InputError(f"{run_dir}: cannot read its checkpoints: {trouble(error)}") from None
    if not found:
        raise InputError(f"{run_dir}: no checkpoints there of a finished epoch; "
                         "expected a run folder that `hpcfilter train` has written")
    if epoch is not None and epoch not in found:
        raise InputError(f"{run_dir}: no checkpoint of epoch {epoch}; there are: "
                         f"{', '.join(map(str, sorted(found)))}")
    path = found[max(found) if epoch is None else epoch]
    return path, read_stamp(path)


def newest(folder, comm, refuse):
    """The newest generation that is whole and fits, read and checked by rank 0, known to all ranks.

    refuse: function of a stamp that says why this run cannot use it, or "". Returns (path, stamp, passed
    over: list of str), or (None, None, []) where there are none. Raises InputError on all ranks when there
    are some and none is of use: to begin anew, and in time to remove them, is not for us to decide; Failure
    when the disk does not answer.
    """
    def find():
        passed_over = []
        try:
            found = generations(folder)
        except OSError as error:
            raise Failure(f"{folder}: cannot be read: {error}") from None
        for path in reversed(found):
            try:
                stamp = read_stamp(path)
                if not (problem := refuse(stamp)):
                    return str(path), stamp, passed_over
                passed_over.append(f"{path}: {problem}")
            except InputError as error:
                passed_over.append(str(error))
        if found:
            raise InputError(f"{folder}: none of {len(found)} checkpoints can be used; "
                             f"move the folder away to begin anew ({passed_over[0]})")
        return None, None, passed_over

    return comm.on_first(find)


def check(stamp, path, **expected):
    """Raise InputError unless the stamp says what is expected: the digests of the model and the data of the
    run that wants to use it."""
    for key, value in expected.items():
        if stamp.get(key) != value:
            raise InputError(f"{path}: got a checkpoint of {key} {stamp.get(key)}, expected {value}; "
                             f"it belongs to another {key}")


def check_settings(stamp, path, settings):
    """Raise InputError unless a run that resumes has the settings it began with. settings: flat dict, as
    Config.fixed gives it."""
    then = stamp.get("settings", {})
    for key in sorted({*then, *settings}):
        if then.get(key) != settings.get(key):
            raise InputError(f"{path}: {key}: the run began with {then.get(key)}, got {settings.get(key)}; "
                             "--resume goes on as it began")


def _sums(folder):
    """What SHA256SUMS is to say, in the format of sha256sum."""
    return "".join(f"{_sha256(path)}  {path.name}\n"
                   for path in sorted(folder.iterdir()) if path.name != SUMS)


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
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems have nothing to bring to the disk for a folder
            raise
    finally:
        os.close(handle)
    pulse.beat()
