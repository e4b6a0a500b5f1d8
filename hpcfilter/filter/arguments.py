"""The arguments of a filter, checked."""

import json
import operator
import os
import re
import zlib
from contextlib import contextmanager

import numpy as np

from hpcfilter.base.errors import InputError
from hpcfilter.base.registry import choose
from hpcfilter.data import read_given
from hpcfilter.filter.deal import DEALS
from hpcfilter.select.policies import check_score, facts_of, find_policy, given_file, policy_function
from hpcfilter.select.scores import make_score
from hpcfilter.select.selector import Stretch


@contextmanager
def in_call_words():
    """What names a key of a run config in an error names the argument of the call
    instead: `filter.epochs: ...` is `Filter(epochs=...): ...`."""
    try:
        yield
    except InputError as error:
        words = re.sub(r"^score\.name\b", "Filter(score=...)", str(error))
        words = re.sub(r"^score\.(\w+)", r'Filter(score={"\1": ...})', words)
        words = re.sub(r"^filter\.(\w+)",
                       r"Filter(\1=...)", words).replace("the phases before this one", "after=")
        renamed = InputError(re.sub(r"(?<= )filter\.(\w+)", r"\1=", words))
        renamed.shared = error.shared
        raise renamed from None


def choices(policy, parameters, after, order, score, epochs, labels, given):
    """What the arguments of a filter name. labels: whether there are some. given: names of the
    columns that the caller has.

    Returns (its Stretches, the score, how samples are dealt, (path, columns) as `policies.given_file`).
    Raises InputError in the words of the call.
    """
    with in_call_words():
        if after and epochs is not None and after >= epochs:
            raise InputError(f"filter.after: got {after}, expected fewer than the {epochs} epochs of the "
                             "training, or nothing is ever hidden")
        schedule = {} if epochs is None else {"epochs": epochs - after}
        function, bound = policy_function(policy, parameters, True, labels, "none (give labels=...)",
                                          given, **schedule)
        deal = choose(DEALS, order, "filter.order")
        score = {"name": score} if isinstance(score, str) else dict(score)
        score = make_score(score.pop("name", "auto"), score, True, "none",
                           facts_of(find_policy(policy)).score or "loss")
        if not given and facts_of(find_policy(policy)).once(bound) and not after:
            raise InputError(f"filter.after: missing (of {policy}, which cuts once, by what earlier epochs "
                             "have shown); such as after=20")
        check_score(policy, bound, function.keywords, score, given, after)
        if score.needs_features or score.needs_passes:
            raise InputError(f"score.name: {score.name} needs more than losses and logits; "
                             "use `hpcfilter score`")
        looking = [Stretch(0, "none", policy_function("none", {}, True, labels, "none")[0])] if after else []
        return ([*looking, Stretch(after, policy, function, bound)], score, deal,
                given_file(policy, bound, instead=given))


def count(num_samples, comm):
    """num_samples as an int. Raises InputError when it is none, or too few for the ranks."""
    try:
        total = operator.index(num_samples)
    except TypeError:
        raise InputError(f"Filter: num_samples: got {type(num_samples).__name__}, expected the number of "
                         "samples, such as len(dataset)") from None
    if total < comm.size:
        raise InputError(f"Filter: got {total} samples on {comm.size} ranks, expected at least one for each")
    return total


def own_rows(name, array, owned, total):
    """This rank's rows of an (N,) array. name: for errors. owned: range. total: N. Returns an array
    (n_local,); raises InputError."""
    if len(array) != total:
        raise InputError(f"Filter: {name}: got {len(array)} rows, expected {total}")
    return np.array(array[owned.start : owned.stop])  # a copy: the whole need not stay


def own_columns(given, owned, total):
    """This rank's rows of what a policy reads. given: name -> (N,) array; of a mask, `keep`, and of `weight`
    any kind of numbers will do.

    Returns name -> array (n_local,). Raises InputError for a path, another length, a mask that is none, or
    weights that make no sense.
    """
    columns = {}
    for name, array in given.items():
        if isinstance(array, str | os.PathLike):
            raise InputError(f"Filter: given: {name}: got the path {array}, expected the array itself, "
                             "such as numpy.load of it")
        if name == "keep" and len(array) != total:
            raise InputError(f"Filter: given: keep: got {len(array)} rows, expected {total}; of a list of "
                             f"indices make a mask: keep = numpy.zeros({total}, bool); keep[indices] = True")
        own = own_rows(f"given: {name}", array, owned, total)
        if name == "keep" and not np.isin(own, (0, 1)).all():
            raise InputError(f"Filter: given: keep: got {own.dtype} from {own.min()} to {own.max()}, "
                             "expected 0 or 1 for each sample")
        if name == "weight" and not (np.isfinite(own) & (own >= 0)).all():
            raise InputError(f"Filter: given: weight: got {own.min()} to {own.max()}, "
                             "expected finite numbers of at least 0")
        columns[name] = own.astype({"keep": bool, "weight": np.float32}.get(name, own.dtype))
    return columns


def given_columns(given, path, columns, policy, owned, total, comm):
    """This rank's rows of what the policy reads, out of `given` or out of the file. path, columns: of
    `choices`. Raises InputError.

    Returns name -> array (n_local,).
    """
    given = own_columns(given, owned, total)
    if given and not (set(columns[:1]) <= set(given) <= set(columns)):
        raise InputError(f"Filter: given: got {', '.join(given)}; "
                         f"{policy} reads {' and '.join(columns) or 'nothing'}")
    if given and path is not None:
        raise InputError(f"Filter: got both given= and the file {path}, expected one of them")
    return given if path is None else read_given(path, columns, owned, total, part=(comm.rank, comm.size))


def own_labels(labels, owned, total):
    """This rank's labels as int64 (n_local,). Raises InputError unless they are integers from 0."""
    labels = own_rows("labels", labels, owned, total)
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise InputError(f"Filter: labels: got {labels.dtype} of shape {(total, *labels.shape[1:])}, "
                         "expected an integer from 0 for each sample; words: numpy.unique(labels, "
                         "return_inverse=True)[1]")
    if labels.min() < 0:
        raise InputError(f"Filter: labels: got {labels.dtype} from {labels.min()}, expected integers from 0")
    return labels.astype(np.int64)


def checksum(array):
    """A number that tells whole arrays apart, so that ranks can compare theirs; None for None."""
    if array is None:
        return None
    array = np.ascontiguousarray(array)
    values = array.astype(np.float64).tobytes() if array.dtype.kind in "biuf" else repr(array).encode()
    return zlib.crc32(f"{array.shape}".encode(), zlib.crc32(values))


def learns(policy, parameters, given):
    """Whether a policy works with the losses that come. given: what it has been given instead."""
    facts = facts_of(find_policy(policy))
    return facts.score is not None and (policy != "static" or (facts.once(parameters) and not given))


def checksums(labels, given):
    """What tells the arrays of a call apart: "NAME (checksum)" -> number. labels: array or None. given: dict
    of arrays, or something else, which has none."""
    arrays = {"labels": labels, **(given if isinstance(given, dict) else {})}
    return {f"{name} (checksum)": checksum(array) for name, array in arrays.items()}


def fixed(stretch, facts):
    """The parameters that a state must share with the filter that goes on with it, as JSON.

    A training may be lengthened, and a file be moved. stretch: select.selector.Stretch. facts: of its policy.
    """
    free = "epochs", (facts.given or (None,))[0]
    every = {**stretch.parameters, **stretch.select.keywords}
    plain = {key: value for key, value in every.items() if key not in free}
    return json.dumps(plain, default=str, sort_keys=True)


def whole_epoch(epoch, where="set_epoch"):
    """An epoch as int. where: for errors. Raises InputError unless it is a whole number from 0 on."""
    try:
        number = operator.index(epoch)
    except TypeError:
        raise InputError(f"Filter: {where}: got {type(epoch).__name__} {epoch!r}, expected a whole number "
                         "from 0 on") from None
    if number < 0:
        raise InputError(f"Filter: {where}: got {number}, expected a whole number from 0 on")
    return number
