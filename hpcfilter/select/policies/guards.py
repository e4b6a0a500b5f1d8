"""What stands around every policy, off by default: a noise guard, a class floor, cheaper refreshes, a rule
for the learning rate."""

from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from hpcfilter.base.shares import Count, Fraction, share_up
from hpcfilter.select.policies.ranking import class_sizes, hide_lowest
from hpcfilter.select.threshold import exact_sum, lowest_by_group, lowest_keys, order_keys


def guarded(policy, scores, epoch, seed, comm, *,
            noise: Fraction = 0.0,
            noise_warmup: Annotated[int, Field(ge=0)] = 2,
            noise_patience: Annotated[int, Field(ge=1, le=255)] = 3,
            class_floor: Annotated[float, Field(ge=0, le=1)] = 0.0,
            refresh: Literal["paper", "none", "all", "slice", "near"] = "paper",
            refresh_every: Count = 4,
            lr: Literal["paper", "kept", "effective", "none"] = "paper"):
    """The policy's selection, and what the guards make of it.
    policy: (scores, epoch, seed, comm) -> Selection.

    noise: hide of the floor(noise * N) highest scores, ranked within each class where there are classes,
    those that have been among them at noise_patience observations in a row, from epoch noise_warmup on.
    Ranking within the class keeps a rare class from passing for noise. They get a forward pass at the end of
    the epoch, so that what is learnt after all comes back; with another refresh rule they may stay hidden for
    good. class_floor: of each class at least this share trains; the highest scores that were hidden come
    back, at weight 1, noise last. refresh: which hidden samples get a forward pass at the end of the
    epoch: as the paper says, none, all, a slice of 1 in refresh_every that moves on with the epoch, or the 1
    in refresh_every that are nearest to being kept, of those that are hidden as easy. lr: factor of the
    learning rate: the paper's own rule, N / kept, the effective batch (sum w)^2 / (kept * sum w^2), or 1; of
    what is really kept, and, in `hpcfilter train`, once the warm-up of the schedule is over.
    State: scores.streak, 1 B, for the noise guard.
    """
    selection = policy(scores, epoch, seed, comm)
    with comm.together():
        selection.check(len(scores.owned), getattr(getattr(policy, "func", policy), "__name__", "policy"))
    if noise:
        noisy, streak = hard_tail(scores, scores.importance, noise, epoch, comm, noise_warmup, noise_patience,
                                  scores.labels is not None)
        noisy &= selection.keep
        selection = replace(selection, keep=selection.keep & ~noisy, refresh=selection.refresh | noisy,
                            hard=noisy, streak=streak)
    if class_floor:
        selection = _keep_floor(scores, selection, class_floor, comm)
    kept = int(comm.sum(np.count_nonzero(selection.keep)))
    if refresh != "paper":
        selection = replace(selection,
                            refresh=_refreshed(refresh, refresh_every, scores, selection, epoch, comm))
    return replace(selection, lr_scale=_lr_scale(selection.lr_rule if lr == "paper" else lr, scores,
                                                 selection, kept, comm))


def hard_tail(scores, importance, fraction, epoch, comm, warmup, patience, per_class):
    """The samples that have been among the highest `fraction` at `patience` observations in a row,
    counted from epoch `warmup`.

    importance: float32 (n_local,). Returns (mask bool (n_local,), streak uint8 (n_local,)); a sample that was
    not observed keeps its streak in the tail.
    """
    if epoch < warmup or not fraction:
        return np.zeros(len(importance), bool), np.zeros(len(importance), np.uint8)
    tail, _ = hide_lowest(scores, -importance, fraction, comm, per_class)
    streak = np.where(tail, np.minimum(scores.streak, 254) + scores.fresh, 0).astype(np.uint8)
    return tail & (streak >= patience), streak


def _keep_floor(scores, selection, floor, comm):
    sizes, kept = class_sizes(scores, comm), class_sizes(scores, comm, selection.keep)
    wanted = np.array([share_up(floor, int(size)) for size in sizes], np.int64)
    missing = np.maximum(wanted - kept, 0)
    if not missing.any():
        return selection
    # the unknown come first, then the highest, noise last
    order = np.where(np.isnan(scores.importance), -np.inf, -scores.importance)
    order = np.where(selection.keep, np.nan, np.where(selection.hard, np.inf, order)).astype(np.float32)
    back = lowest_by_group(order, scores.labels, missing, comm)
    return replace(selection, keep=selection.keep | back,
                   weight=np.where(back, np.float32(1), selection.weight), hard=selection.hard & ~back,
                   moved_back=selection.moved_back | back, refresh=selection.refresh & ~back)


def _refreshed(rule, every, scores, selection, epoch, comm):
    hidden = ~selection.keep
    if rule == "none":
        return np.zeros_like(hidden)
    if rule == "slice":
        return hidden & (np.asarray(scores.owned) % every == epoch % every)
    if rule == "near":
        near, easy = np.zeros_like(hidden), hidden & ~selection.hard
        near[easy], _ = lowest_keys(~order_keys(scores.importance[easy]),
                                    -(-int(comm.sum(np.count_nonzero(easy))) // every), comm)
        return near
    return hidden


def _lr_scale(rule, scores, selection, kept, comm):
    if rule == "none" or kept == 0:
        return 1.0
    if rule == "kept":
        return scores.total / kept
    weight = selection.weight[selection.keep]
    total, squares = exact_sum(weight, comm)[0], exact_sum(weight * weight, comm)[0]
    return float(total * total / (kept * squares)) if squares else 1.0
