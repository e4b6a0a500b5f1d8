"""The filter in trainers that shard, reorder or count its batches: what is refused, when and in which words,
and what its numbers say."""

import gc
import subprocess
import sys

import numpy as np
import pytest
import torch
from filters import sampler, step
from law_cases import EPOCHS, SEED
from law_cases import N as SAMPLES
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler

from hpcfilter.base.errors import InputError
from hpcfilter.comm import SerialComm
from hpcfilter.comm.threads import run
from hpcfilter.filter import Filter

FLAGS = ("use_distributed_sampler=False", "prepare()", "get_train_dataloader", "shuffle=True",
         "batch_sampler=", "ignore_data_skip=True")


def batches_until_refused(batches, **parameters):
    """Train batches of indices. Returns (how many went well, the error)."""
    of = sampler("none", **parameters)
    list(of)
    for number, index in enumerate(batches(of)):
        try:
            step(of, list(index))
        except InputError as error:
            return number, str(error)
    return number + 1, ""


def sharded_by_batches(rank, ranks=2):
    """What Accelerate and the HF Trainer make of a loader: every second batch."""
    return lambda of: [batch for number, batch in enumerate(BatchSampler(of, 16, False))
                       if number % ranks == rank]


def sharded_by_samples(shuffle):
    """What Lightning makes of a sampler."""
    def batches(of):
        whole = list(of)
        return BatchSampler([whole[i] for i in DistributedSampler(range(SAMPLES), 2, 1, shuffle=shuffle)],
                            16, False)

    return batches


@pytest.mark.parametrize("batches, well, what", [
    (sharded_by_batches(0), 1, "16 samples were left out before it (partial=True allows that)"),
    (sharded_by_batches(1), 0, "16 samples were left out before it"),
    (sharded_by_batches(2, 3), 0, "32 samples were left out before it"),
    (sharded_by_samples(shuffle=False), 0, "they are in another order"),
    (sharded_by_samples(shuffle=True), 0, "they are in another order"),
    (lambda of: BatchSampler(sorted(of), 16, False), 0, "they are in another order"),
    (lambda of: [list(of)[:16], list(of)[:16]], 1, "they came already"),
    (lambda of: [*BatchSampler(of, 16, False), list(of)[:16]], 13, "they came already"),
    (lambda of: list(BatchSampler(of, 16, False))[3:], 0, "48 samples were left out before it"),
])
def test_a_loader_that_is_sharded_twice_reordered_or_drawn_twice(batches, well, what):
    """Refused at the first batch that is wrong, in words that name the usual causes and the
    flag of each trainer."""
    number, message = batches_until_refused(batches)
    assert number == well and what in message and all(flag in message for flag in FLAGS), message
    assert "batches must come in the sampler's order, each once" in message and "\n" not in message


def test_samples_of_another_rank_are_refused():
    """Accelerate's dispatch_batches gives all ranks what rank 0 has drawn."""
    def work(comm):
        of = Filter(SAMPLES, "none", comm=comm)
        index = comm.bcast(list(of)[:10])
        if comm.rank == 0:
            step(of, index)
            return True
        with pytest.raises(InputError, match=r"not all of them are this rank's to train; .*usual causes"):
            step(of, index)
        return True

    assert all(run(2, work))


def test_batches_may_be_left_out_where_that_is_said():
    number, message = batches_until_refused(sharded_by_batches(0), partial=True)
    assert (number, message) == (7, "")


EARLY_END = (r"epoch 0 is over, and only \d+ of its 203 samples came to `loss`; usual cause: "
             r"a trainer that counts the batches once.*" "reload_dataloaders_every_n_epochs=1.*partial=True")


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("trained, refused",
                         [(0.5, True), (0.59, True), (0.88, True), (0.92, False), (1.0, False)])
def test_an_epoch_that_ends_early_is_refused_on_all_ranks(ranks, trained, refused):
    """A trainer that counts the batches once stops in the middle of an epoch that has become longer: by
    set_epoch at the latest all ranks know."""
    def work(comm):
        of = Filter(SAMPLES, "infobatch", comm=comm, epochs=EPOCHS, seed=SEED)
        index = list(of)[: round(trained * len(of))]
        for start in range(0, len(index), 4):
            step(of, index[start : start + 4])
        if not refused:
            return ""
        found = []
        for end in (lambda: of.set_epoch(1), lambda: of.state_dict(epoch_over=True)):
            with pytest.raises(InputError, match=EARLY_END) as error:
                end()
            assert error.value.shared
            found.append(str(error.value))
        assert found[0] == found[1]
        assert of.state_dict() == {} if comm.rank else of.state_dict(), ("in the middle of the epoch a state "
                                                                         "is nothing to refuse")
        return found[0]

    assert len(set(run(ranks, work))) == 1


def test_what_drop_last_leaves_out_and_the_rest_of_a_resumed_epoch_are_no_early_end():
    """Three quarters of an epoch in one batch, the rest dropped; and an epoch of which little was left,
    and little of that came."""
    of = sampler("none")
    step(of, list(of)[:150])
    of.set_epoch(1)
    index = list(of)
    for start in range(0, 190, 5):
        step(of, index[start : start + 5])
    second = sampler("none")
    second.load_state_dict(of.state_dict())
    assert len(second) == 13
    step(second, list(second)[:5])
    with pytest.warns(RuntimeWarning,
                      match="only 195 samples came to `loss`; .*usual cause: a trainer that counts"):
        second.set_epoch(2)


@pytest.mark.parametrize("words, end, state, said", [
    ({}, 100, False, True), ({}, 190, False, True), ({}, 200, False, False), ({}, 0, False, False),
    ({}, 100, True, False), ({"partial": True}, 100, False, False),
])
def test_a_filter_that_goes_in_the_middle_of_its_last_epoch_says_so(words, end, state, said, capsys,
                                                                    monkeypatch):
    """After the last epoch nobody calls set_epoch: 832 of 1,400 samples would be trained in silence."""
    monkeypatch.delattr(sys, "last_value", raising=False)

    def script():
        of = Filter(200, "none", comm=SerialComm(), **words)
        index = list(of)
        for start in range(0, end, 10):
            of.loss(torch.ones(10), index[start : start + 10])
        if state:
            of.state_dict()

    script()
    gc.collect()
    told = (f"hpcfilter: epoch 0 ended after {end} of the 200 samples of rank 0; usual cause: "
            "a trainer that counts the batches once")
    assert (told in capsys.readouterr().err) == said


@pytest.mark.parametrize("last", ["", "raise RuntimeError"])
def test_so_does_a_script_that_ends_but_not_one_that_fails(last):
    script = f"""import torch, hpcfilter
of = hpcfilter.Filter(200, "none")
of.loss(torch.ones(10), list(of)[:10])
{last}"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60,
                          check=False)
    assert ("epoch 0 ended after 10 of the 200 samples" in done.stderr) == (not last), done.stderr


def after(of, policy, epochs=EPOCHS, **parameters):
    second = sampler(policy, epochs=epochs, **parameters)
    second.load_state_dict(of.state_dict())
    return second


@pytest.mark.parametrize("policy", ["infobatch", "kakurenbo", "forget"])
def test_a_state_of_a_finished_epoch_stands_at_the_beginning_of_the_next(policy):
    """A trainer that asks for the length before it calls set_epoch gets that of the next epoch, and trains it
    with or without set_epoch."""
    parameters = {"after": 1} if policy == "forget" else {}
    of = sampler(policy, **parameters)
    for epoch in range(2):
        of.set_epoch(epoch)
        step(of, list(of), epoch)
    first, second = after(of, policy, **parameters), after(of, policy, **parameters)
    of.set_epoch(2)
    assert len(first) == len(of) > 0 and len(DataLoader(first.indexed(range(SAMPLES)), batch_size=16,
                                                        sampler=first)) == -(-len(of) // 16)
    assert (first.epoch, first.first_epoch, first.kept, first.begins_anew) == (2, 2, of.kept, of.begins_anew)
    assert list(first) == list(of), "without set_epoch"
    second.set_epoch(2)
    assert list(second) == list(of) and np.array_equal(second.scores.importance, of.scores.importance)
    again = after(second, policy, **parameters)
    assert again.first_epoch == 2 and list(again) == list(of)
    with pytest.raises(InputError, match=r"set_epoch\(1\): that epoch is under way or over"):
        second.set_epoch(1)


def test_after_the_last_epoch_nothing_is_left():
    of = sampler("random", epochs=2)
    for epoch in range(2):
        of.set_epoch(epoch)
        step(of, list(of), epoch)
    done, longer, unknown = (after(of, "random", epochs) for epochs in (2, 3, None))
    assert len(done) == 0 and list(done) == [] and done.first_epoch == 2
    assert len(longer) == len(unknown) > 0 and longer.first_epoch == unknown.first_epoch == 2


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("order", ["global", "shard"])
def test_the_length_of_an_epoch_is_offered_as_numbers(ranks, order):
    def work(comm):
        of = Filter(SAMPLES, "random", comm=comm, order=order, fraction=0.4, seed=SEED)
        assert (of.kept == int(comm.sum(np.count_nonzero(of.selection.keep))) == SAMPLES - 81
                and of.kept_share == of.kept / SAMPLES)
        return len(of), int(comm.max(np.count_nonzero(of.selection.keep)))

    lengths, fullest = zip(*run(ranks, work), strict=True)
    assert set(lengths) == {-(-(SAMPLES - 81) // ranks) if order == "global" else fullest[0]}


def test_a_mask_needs_no_epochs():
    """Nor does a selection file, see test_filter; only a cut after a share of the epochs does."""
    keep = np.arange(SAMPLES) % 2 == 0
    of = Filter(SAMPLES, "static", comm=sampler("none").comm, given={"keep": keep})
    assert sorted(of) == np.flatnonzero(keep).tolist() and of.kept == keep.sum()
    weighted = Filter(SAMPLES, "static", comm=of.comm,
                      given={"keep": keep, "weight": np.full(SAMPLES, 2, np.float32)})
    assert float(weighted.loss(torch.ones(4), list(weighted)[:4])) == 2.0
    step(of, list(of))
    second = Filter(SAMPLES, "static", comm=of.comm, given={"keep": keep})
    second.load_state_dict(of.state_dict())
    assert second.first_epoch == 1 and len(second) == keep.sum()
