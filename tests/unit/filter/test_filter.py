"""The filter in scripts of other people: loaders with workers, stopping and going on, selections; what every
policy does in it is in `laws`."""

import io

import numpy as np
import pytest
import torch
from filters import sampler, step
from law_cases import EPOCHS, network
from law_cases import N as SAMPLES
from torch.utils.data import DataLoader

import hpcfilter
from hpcfilter.base.errors import InputError
from hpcfilter.comm import SerialComm
from hpcfilter.comm.threads import run
from hpcfilter.data import write_table
from hpcfilter.filter import Filter


def test_the_front_door():
    assert hpcfilter.Filter is Filter and "Filter" in hpcfilter.__all__
    with pytest.raises(AttributeError, match="no attribute 'Flter'"):
        hpcfilter.Flter  # noqa: B018


@pytest.mark.parametrize("workers", [{}, {"num_workers": 2},
                                     {"num_workers": 2, "persistent_workers": True, "prefetch_factor": 3}])
@pytest.mark.parametrize("drop_last", [False, True])
def test_loaders(workers, drop_last):
    """One loader for all epochs, whatever its workers have read ahead; a batch that is dropped is not
    observed, and keeps its score."""
    of, plain = sampler(), sampler()
    loader = DataLoader(of.indexed(range(SAMPLES)), batch_size=16, sampler=of, drop_last=drop_last, **workers)
    for epoch in range(4):
        of.set_epoch(epoch)
        plain.set_epoch(epoch)
        expected = list(plain)
        expected = expected[: len(expected) // 16 * 16] if drop_last else expected
        drawn = []
        assert len(loader) == -(-len(expected) // 16)
        for index, value in loader:
            assert torch.equal(index, value)
            step(of, index, epoch)
            drawn += index.tolist()
        assert drawn == expected
        step(plain, expected, epoch)
    of.set_epoch(4)
    plain.set_epoch(4)
    assert (np.array_equal(of.scores.seen, plain.scores.seen)
            and np.array_equal(of.selection.keep, plain.selection.keep))


def test_going_on_in_the_middle_of_an_epoch():
    """The state goes through torch.save and weights_only, and is taken while workers have read ahead."""
    def loader(of):
        return DataLoader(of.indexed(range(SAMPLES)), batch_size=16, sampler=of, num_workers=2)

    def epochs(of, stop=None):
        for epoch in range(of.first_epoch, EPOCHS):
            of.set_epoch(epoch)
            for number, (index, _) in enumerate(loader(of)):
                step(of, index, epoch)
                trained.append((epoch, *index.tolist()))
                if stop == (epoch, number):
                    return of.state_dict()
        return None

    trained = []
    epochs(sampler())
    whole, trained = trained, []
    file = io.BytesIO()
    torch.save(epochs(sampler(), stop=(2, 4)), file)
    file.seek(0)
    second = sampler()
    second.load_state_dict(torch.load(file, weights_only=True))
    assert second.first_epoch == 2
    epochs(second)
    assert trained == whole


def test_the_loss_is_the_weighted_mean_and_has_its_gradient():
    of = sampler("static", given={"keep": np.ones(SAMPLES, bool),
                                  "weight": np.linspace(0, 2, SAMPLES, dtype=np.float32)})
    index = list(of)[:10]
    losses = torch.rand(10, requires_grad=True)
    loss = of.loss(losses, torch.tensor(index))
    weight = torch.linspace(0, 2, SAMPLES)[index]
    assert torch.allclose(loss, (losses * weight).mean())
    loss.backward()
    assert torch.allclose(losses.grad, weight / 10)


@pytest.mark.parametrize("ranks", [2, 3, 8])
def test_stand_ins_do_not_change_the_mean_over_the_ranks(ranks):
    """The last global batch of 203 samples is short on some ranks: the mean over the ranks is
    still that of its samples."""
    def last(comm):
        of = Filter(SAMPLES, "none", comm=comm)
        index = list(of)
        step(of, index[:-1])
        return float(step(of, index[-1:])), index[-1], of._hand.stand_ins

    results = run(ranks, last)
    real = [index for _, index, stand_ins in results][: ranks - results[0][2]]
    assert np.mean([loss for loss, *_ in results]) == pytest.approx(float(network(0)[0][real].mean()),
                                                                    rel=1e-6)


def test_an_epoch_that_ends_early_is_over_when_the_user_says_so():
    of = sampler("none")
    step(of, list(of)[:200])
    assert sampler_after(of.state_dict()).first_epoch == 0
    second = sampler_after(of.state_dict(epoch_over=True))
    assert second.first_epoch == 1
    second.set_epoch(1)
    assert second.scores.seen.sum() == 200 and len(second) == SAMPLES


def sampler_after(state):
    of = sampler("none")
    of.load_state_dict(state)
    return of


def test_a_longer_training_may_go_on_between_two_epochs():
    of = sampler(epochs=5, partial=True)
    sampler(epochs=50).load_state_dict(of.state_dict())
    step(of, list(of)[:100])
    with pytest.raises(InputError, match="epochs: got a state from the middle of an epoch of 5, expected 50"):
        sampler(epochs=50).load_state_dict(of.state_dict())
    sampler(epochs=50).load_state_dict(of.state_dict(epoch_over=True))  # an epoch that the user says is over


def test_static_with_arrays():
    keep = np.arange(SAMPLES) % 2 == 0
    assert len(sampler("static", epochs=1, given={"keep": keep}, score="difference")) == keep.sum()
    with pytest.raises(InputError, match="given: got weight; static reads keep and weight"):
        sampler("static", given={"weight": np.ones(SAMPLES, np.float32)})
    with pytest.raises(InputError, match="both given= and the file x.h5"):
        sampler("static", given={"keep": keep}, selection="x.h5")


def test_hidden_samples_can_be_looked_at():
    of = sampler("kakurenbo", tau=0.0)
    for epoch in range(2):
        of.set_epoch(epoch)
        step(of, list(of), epoch)
    hidden = of.hidden
    assert len(hidden) == (~of.selection.keep).sum() > 0
    losses, logits, labels = (part[hidden] for part in network(1))
    of.observe(losses, hidden, logits, labels)
    shown = int(np.flatnonzero(of.selection.keep)[0])
    with pytest.raises(InputError, match=f"got indices from {shown} to {shown}, expected those of `hidden`"):
        of.observe(losses[:1], [shown], logits[:1], labels[:1])
    of.set_epoch(2)
    assert (of.scores.seen == 2).all() and np.array_equal(of.scores.importance[hidden], losses.numpy())


def test_a_selection_file(tmp_path):
    keep = np.arange(SAMPLES) % 2 == 0
    columns = {"keep": (np.uint8, [keep.astype(np.uint8)]),
               "weight": (np.float32, [np.ones(SAMPLES, np.float32)])}
    write_table(tmp_path / "s.h5", SAMPLES, columns, {"data": "any", "kept": int(keep.sum())})
    assert sorted(sampler("static", selection=tmp_path / "s.h5")) == np.flatnonzero(keep).tolist()
    assert len(Filter(SAMPLES, "static", comm=SerialComm(),
                      selection=tmp_path / "s.h5")) == keep.sum(), "no epochs are asked for"
    with pytest.raises(InputError, match="203 samples, expected any with 100"):
        Filter(100, "static", comm=SerialComm(), epochs=3, selection=tmp_path / "s.h5")


def test_node_local_data_in_shard_order():
    """Every rank has only its own samples on disk."""
    def work(comm):
        of = Filter(SAMPLES, "none", comm=comm, order="shard")
        owned = of.scores.owned
        for index, value in DataLoader(of.indexed([10 * i for i in owned]), batch_size=16, sampler=of):
            assert torch.equal(value, 10 * index)
        with pytest.raises(InputError, match=f"expected 203, or {len(owned)}, those that this rank owns"):
            of.indexed(range(3))
        return True

    assert all(run(4, work))


def test_a_data_set_that_reads_batches_at_once():
    class Batches:
        def __len__(self):
            return SAMPLES

        def __getitems__(self, indices):
            return [-i for i in indices]

    of = sampler("none")
    for index, value in DataLoader(of.indexed(Batches()), batch_size=50, sampler=of, num_workers=1):
        assert torch.equal(value, -index)


def test_beginning_anew_is_announced():
    of = sampler("forget", after=2)
    anew = []
    for epoch in range(4):
        of.set_epoch(epoch)
        anew.append(of.begins_anew)
        step(of, list(of), epoch)
    assert anew == [False, False, True, False] and of.lr_scale == 1
    of = sampler("forget", after=2)
    for epoch in range(3):
        of.set_epoch(epoch)
        step(of, list(of)[: 50 if epoch == 2 else None], epoch)
    second = sampler("forget", after=2)
    second.load_state_dict(of.state_dict())
    second.set_epoch(2)
    assert not second.begins_anew, "in the middle of that epoch the network has begun anew already"


def test_nothing_begins_anew_where_nothing_is_cut():
    for policy, parameters in (("forget", {"fraction": 0.0}), ("infobatch", {}),
                               ("static", {"fraction": 0.4})):
        of = sampler(policy, after=2, **parameters)
        for epoch in range(3):
            of.set_epoch(epoch)
            assert not of.begins_anew
            step(of, list(of), epoch)


def test_every_policy_can_wait_and_counts_its_epochs_from_there():
    """Epochs of looking first, for a policy that has a schedule: it is that of a run which
    is shorter by them."""
    late, early = (sampler("kakurenbo", tau=0.0, fraction=0.5, refresh="none", **more)
                   for more in ({"after": 2}, {"epochs": EPOCHS - 2}))
    for epoch in range(3):
        late.set_epoch(epoch)
        assert (epoch < 2) == late.selection.keep.all()
        step(late, list(late), epoch)
    late.set_epoch(3)
    early.scores.restore(late.scores.columns())
    early.set_epoch(1)
    assert (late.kept == early.kept and np.array_equal(late.selection.keep, early.selection.keep)
            and late.kept < SAMPLES)
