"""The arguments of a filter, checked."""

import operator
import re
from contextlib import contextmanager

import numpy as np

from hpcfilter.config import choose
from hpcfilter.errors import InputError
from hpcfilter.filter.deal import DEALS
from hpcfilter.policies import check_score, find_policy, given_file, policy_function
from hpcfilter.scores import make_score


@contextmanager
def in_call_words():
    """What names a key of a run config in an error names the argument of the call instead: `filter.epochs: ...` is `Filter(epochs=...): ...`."""
    try:
        yield
    except InputError as error:
        words = re.sub(r"^score\.name\b", "Filter(score=...)", str(error))
        words = re.sub(r"^score\.(\w+)", r'Filter(score={"\1": ...})', words)
        words = re.sub(r"^filter\.(\w+)", r"Filter(\1=...)", words)
        raise InputError(re.sub(r"(?<= )filter\.(\w+)", r"\1=", words)) from None


def choices(policy, parameters, order, score, epochs, labels, given):
    """What the arguments of a filter name. labels: whether there are some. given: names of the columns that the caller has.

    Returns (policy's function with all its parameters, those of the policy itself, the score, how samples are dealt, (path, columns) as
    `policies.given_file`). Raises InputError in the words of the call.
    """
    with in_call_words():
        schedule = {} if epochs is None else {"epochs": epochs}
        function, bound = policy_function(policy, parameters, True, labels, "none (give labels=...)", given, **schedule)
        deal = choose(DEALS, order, "filter.order")
        score = {"name": score} if isinstance(score, str) else dict(score)
        score = make_score(score.pop("name", "auto"), score, True, "none", getattr(find_policy(policy), "score", "loss"))
        check_score(policy, bound, function.keywords, score, given)
        if score.needs_features or score.needs_passes:
            raise InputError(f"score.name: {score.name} needs more than losses and logits; use `hpcfilter score`")
        return function, bound, score, deal, given_file(policy, bound, instead=given)


def count(num_samples, comm):
    """num_samples as an int. Raises InputError when it is none, or too few for the ranks."""
    try:
        total = operator.index(num_samples)
    except TypeError:
        raise InputError(f"Filter: num_samples: got {type(num_samples).__name__}, expected the number of samples, such as len(dataset)") from None
    if total < comm.size:
        raise InputError(f"Filter: got {total} samples on {comm.size} ranks, expected at least one for each")
    return total


def own_rows(name, array, owned, total):
    """This rank's rows of an (N,) array. name: for errors. owned: range. total: N. Returns an array (n_local,); raises InputError."""
    if len(array) != total:
        raise InputError(f"Filter: {name}: got {len(array)} rows, expected {total}")
    return np.array(array[owned.start : owned.stop])  # a copy: the whole need not stay


def own_labels(labels, owned, total):
    """This rank's labels as int64 (n_local,). Raises InputError unless they are integers from 0."""
    labels = own_rows("labels", labels, owned, total)
    if labels.dtype.kind not in "iu" or labels.min() < 0:
        raise InputError(f"Filter: labels: got {labels.dtype} from {labels.min()}, expected integers from 0")
    return labels.astype(np.int64)
