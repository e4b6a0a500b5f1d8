"""Faults on purpose: how the tests and the campaign prove that nothing committed is lost and nobody hangs.

    HPCFILTER_FAULT="rank=1,point=after_rename,n=3,kind=sigkill"

The n-th time (default 1) that the rank (default 0) passes the point, the fault happens, and is said on the
error output with its time. Without the variable a point is an empty function.
"""

import errno
import os
import signal
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hpcfilter.base.errors import InputError

POINTS = {  # name -> what is at hand there to be damaged
          "before_select": None, "histogram": "numbers", "after_select": None, "before_step": None,
          "samples": "numbers", "weights": "numbers", "after_step": None, "before_score": None,
          "after_score": None, "before_evaluate": None, "before_save": None, "after_weights": None,
          "after_samples": None, "before_rename": "file", "after_rename": "file", "after_prune": None,
          "before_marker": None,}
ERRORS = ("enospc", "efbig", "eacces", "erofs", "eio", "edquot")  # an OSError, as the disk would raise it
DAMAGE = ("bitflip", "nan")
KINDS = ("sigkill", "sigstop", "exception", *ERRORS, *DAMAGE)


class InjectedFault(Exception):
    """What kind=exception raises."""


def point(name, target=None):
    """Pass a point. target: what may be damaged: the path of a file, a numpy array, a tensor, or the first of
    an iterator over tensors."""


def arm(text, rank):
    """Make `point` live if the text of HPCFILTER_FAULT concerns this rank. Raises InputError for
    what it does not know."""
    global point  # noqa: PLW0603  so that an unarmed point stays an empty function
    wanted = _parse(text)
    if wanted["rank"] != rank:
        return
    passed = 0

    def armed(name, target=None):
        nonlocal passed
        passed += name == wanted["point"]
        if name == wanted["point"] and passed == wanted["n"]:
            _happen(wanted["kind"], f"rank {rank}, {name}, pass {passed}", target)

    point = armed


def _parse(text):
    parts = [part.partition("=") for part in text.split(",")]
    given = {key.strip(): value.strip() for key, _, value in parts}
    unknown = set(given) - {"rank", "point", "n", "kind"}
    if unknown or len(given) < len(parts):
        raise InputError(f"HPCFILTER_FAULT: got '{text}', expected rank=R,point=POINT,n=N,kind=KIND, "
                         "each once")
    for key, known in (("point", POINTS), ("kind", KINDS)):
        if given.get(key) not in known:
            raise InputError(f"HPCFILTER_FAULT: {key}: got '{given.get(key, '')}', "
                             f"expected one of {', '.join(known)}")
    for key, default in (("rank", "0"), ("n", "1")):
        if not given.setdefault(key, default).isdigit():
            raise InputError(f"HPCFILTER_FAULT: {key}: got '{given[key]}', expected a whole number")
    if given["kind"] in DAMAGE and (POINTS[given["point"]] is None
                                    or (given["kind"], POINTS[given["point"]]) == ("nan", "file")):
        fit = ", ".join(name for name, target in POINTS.items()
                        if target == "numbers" or (target and given["kind"] == "bitflip"))
        raise InputError(f"HPCFILTER_FAULT: kind: {given['kind']} has nothing to damage at {given['point']}; "
                         f"points that do: {fit}")
    return {**given, "rank": int(given["rank"]), "n": int(given["n"])}


def _happen(kind, where, target):
    print(f"hpcfilter: fault {kind}: {where}, at {time.time():.3f}", file=sys.stderr, flush=True)
    if kind in ("sigkill", "sigstop"):
        os.kill(os.getpid(), getattr(signal, kind.upper()))
    elif kind == "exception":
        raise InjectedFault(f"injected at {where}")
    elif kind in ERRORS:
        number = getattr(errno, kind.upper())
        raise OSError(number, f"{os.strerror(number)} (injected at {where})")
    elif isinstance(target, str | Path):
        _flip_in_file(target, where)
    else:
        _damage(target, kind)


def _flip_in_file(path, where):
    """Flip one bit, at a place that depends on where this happens."""
    with open(path, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(zlib.crc32(where.encode()) % size)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 4]))


def _damage(numbers, kind):
    """Change the first number of an array or a tensor, in place."""
    numbers = next(numbers) if isinstance(numbers, Iterator) else numbers
    flat = (numbers if isinstance(numbers, np.ndarray) else numbers.detach()).reshape(-1)
    first = (np.array([float("nan")]) if kind == "nan"
             else np.array(flat[:1].tolist(), str(flat.dtype).removeprefix("torch.")))
    if kind == "bitflip":
        first.view(np.uint8)[-2] ^= 4
    flat[0] = first[0].item()
