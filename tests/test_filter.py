"""The filter in scripts of other people: loaders with workers, stopping and going on, mistakes; what every policy does in it is in `laws`."""

import difflib
import io
import re
import socket

import numpy as np
import pytest
import torch
from conftest import CHECKOUT, TIMEOUT
from laws import EPOCHS, LABELS, SEED, make, network, train
from laws import N as SAMPLES
from torch.utils.data import DataLoader

import hpcfilter
from hpcfilter.comm import SerialComm, surroundings
from hpcfilter.comm.threads import run
from hpcfilter.data import write_table
from hpcfilter.errors import InputError
from hpcfilter.filter import Filter
from hpcfilter.launch import run_local


def sampler(policy="infobatch", **parameters):
    return Filter(SAMPLES, policy, comm=SerialComm(), **{"epochs": EPOCHS, "seed": SEED, **parameters})


def step(of, index, epoch=0):
    losses, logits, labels = (part[index] for part in network(epoch))
    return of.loss(losses, index, logits, labels)


def test_the_front_door():
    assert hpcfilter.Filter is Filter and "Filter" in hpcfilter.__all__
    with pytest.raises(AttributeError, match="no attribute 'Flter'"):
        hpcfilter.Flter  # noqa: B018


@pytest.mark.parametrize("workers", [{}, {"num_workers": 2}, {"num_workers": 2, "persistent_workers": True, "prefetch_factor": 3}])
@pytest.mark.parametrize("drop_last", [False, True])
def test_loaders(workers, drop_last):
    """One loader for all epochs, whatever its workers have read ahead; a batch that is dropped is not observed, and keeps its score."""
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
    assert np.array_equal(of.scores.seen, plain.scores.seen) and np.array_equal(of.selection.keep, plain.selection.keep)


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
    of = sampler("static", given={"keep": np.ones(SAMPLES, bool), "weight": np.linspace(0, 2, SAMPLES, dtype=np.float32)})
    index = list(of)[:10]
    losses = torch.rand(10, requires_grad=True)
    loss = of.loss(losses, torch.tensor(index))
    weight = torch.linspace(0, 2, SAMPLES)[index]
    assert torch.allclose(loss, (losses * weight).mean())
    loss.backward()
    assert torch.allclose(losses.grad, weight / 10)


@pytest.mark.parametrize("ranks", [2, 3, 8])
def test_stand_ins_do_not_change_the_mean_over_the_ranks(ranks):
    """The last global batch of 203 samples is short on some ranks: the mean over the ranks is still that of its samples."""
    def last(comm):
        of = Filter(SAMPLES, "none", comm=comm)
        index = list(of)
        step(of, index[:-1])
        return float(step(of, index[-1:])), index[-1], of._hand.stand_ins

    results = run(ranks, last)
    real = [index for _, index, stand_ins in results][: ranks - results[0][2]]
    assert np.mean([loss for loss, *_ in results]) == pytest.approx(float(network(0)[0][real].mean()), rel=1e-6)


def test_batches_may_be_left_out_but_not_shuffled():
    of = sampler("none")
    index = list(of)
    step(of, index[:10])
    step(of, index[50:60])
    with pytest.raises(InputError, match=r"got a batch that begins with .*, expected .* in the sampler's order"):
        step(of, index[10:20])
    with pytest.raises(InputError, match="batches must come in the sampler's order"):
        step(of, index[61:59:-1])
    with pytest.warns(RuntimeWarning, match="only 20 samples came"):
        of.set_epoch(1)
    seen = np.zeros(SAMPLES, int)
    seen[index[:10] + index[50:60]] = 1
    assert np.array_equal(of.scores.seen, seen) and np.isnan(of.scores.importance[seen == 0]).all()


def test_an_epoch_is_trained_once():
    of = sampler("none")
    step(of, list(of)[:10])
    with pytest.raises(InputError, match=r"epoch 0 is under way or over; call set_epoch\(1\)"):
        iter(of)
    with pytest.raises(InputError, match=r"set_epoch\(0\): that epoch is under way or over"):
        of.set_epoch(0)
    with pytest.warns(RuntimeWarning, match="only 10 samples came"):
        of.set_epoch(1)
    of.set_epoch(1)
    assert len(list(of)) == len(list(of)) == SAMPLES


@pytest.mark.parametrize("index, message", [
    ([0, SAMPLES], f"got 0 to {SAMPLES}, expected 0 to {SAMPLES - 1}"), ([-1, 5], "got -1 to 5"), ([0.5, 1], "got float64"), ([[1, 2]], "of shape"),
])
def test_an_index_outside_the_data_set(index, message):
    of = sampler("none")
    list(of)
    with pytest.raises(InputError, match=message):
        of.loss(torch.ones(np.size(index)), index)


def test_mistakes_in_a_step():
    of = sampler("kakurenbo")
    index = list(of)[:4]
    with pytest.raises(InputError, match=r"losses: got shape \(\), expected one per index, \(4,\)"):
        of.loss(torch.ones(4).mean(), index)
    with pytest.raises(InputError, match="kakurenbo with the score loss needs logits and labels"):
        of.loss(torch.ones(4), index)
    with pytest.raises(InputError, match=r"got an output of shape \(4,\) and torch.float32 targets of shape \(4,\), expected logits \(4, classes\)"):
        of.loss(torch.ones(4), index, torch.ones(4), torch.ones(4))


@pytest.mark.parametrize("arguments, message", [
    ({"policy": "infobach"}, "unknown 'infobach'"), ({"fraction": 0.5}, "filter.fraction: unknown key"),
    ({"order": "local"}, "order: unknown 'local'"),
    ({"score": "grand"}, "score.name: grand needs more than losses and logits"), ({"score": {"name": "ema", "alpha": 3}}, "score.alpha"),
    ({"labels": LABELS[:-1]}, "labels: got 202 rows, expected 203"), ({"labels": LABELS - 1}, "labels: got int64 from -1, expected integers from 0"),
    ({"labels": LABELS + 0.5}, "labels: got float64"), ({"given": {"mask": LABELS}}, "given: got mask; infobatch reads nothing"),
    ({"policy": "static", "given": {"mask": LABELS}}, "given: got mask; static reads keep and weight"),
    ({"policy": "dyn_unc", "after": 5, "epochs": 30}, "filter.after: the score dyn_unc is known after 10 epochs, got a cut after 5"),
    ({"epochs": 0}, "filter.epochs"),
    ({"class_floor": 0.5}, "filter.class_floor: needs class labels"), ({"policy": "rho"}, "filter.irreducible: missing"),
    ({"epochs": None}, "filter.epochs: missing"),
])
def test_mistakes_in_the_making(arguments, message):
    arguments = {"policy": "infobatch", "epochs": 9, **arguments}
    if arguments["epochs"] is None:
        del arguments["epochs"]
    with pytest.raises(InputError, match=re.escape(message)):
        run(2, lambda comm: Filter(SAMPLES, comm=comm, **arguments))


def test_ranks_that_are_told_different_things():
    for changes in ({"seed": 3}, {"r": 0.4}, {"order": "shard"}, {"num_samples": 202}, {"epochs": 10},
                    {"labels": LABELS}, {"policy": "static", "given": {"keep": LABELS > 0}}):
        with pytest.raises(InputError, match=rf"{next(iter(changes))[-7:]}.*: got .* on rank 1 and .* on rank 0"):
            run(3, lambda comm, changes=changes: Filter(**{"num_samples": SAMPLES, "epochs": 9, "comm": comm, **(changes if comm.rank else {})}))


def test_a_data_set_in_the_place_of_its_length():
    with pytest.raises(InputError, match="num_samples: got list, expected the number of samples, such as len"):
        Filter([1, 2, 3], comm=SerialComm(), epochs=3)


def test_a_filter_that_is_made_too_early(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(InputError, match="WORLD_SIZE is 4, but there is MPI for 1; make the filter after init_process_group"):
        Filter(SAMPLES, epochs=3)


def test_nothing_is_lost_silently():
    """Observations that do not come, or looks that nobody takes, are warned of once."""
    of = sampler("infobatch")
    list(of)
    with pytest.warns(RuntimeWarning, match="epoch 0: only 0 samples came to `loss`; the others keep the scores they had"):
        of.set_epoch(1)
    list(of)
    of.set_epoch(2)
    of = sampler("kakurenbo", tau=0.0)
    for epoch in range(2):
        of.set_epoch(epoch)
        step(of, list(of), epoch)
    with pytest.warns(RuntimeWarning, match="the policy wants a forward pass over 26 hidden samples"):
        of.set_epoch(2)


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
    of = sampler(epochs=5)
    sampler(epochs=50).load_state_dict(of.state_dict())
    step(of, list(of)[:100])
    with pytest.raises(InputError, match="epochs: got a state from the middle of an epoch of 5, expected 50"):
        sampler(epochs=50).load_state_dict(of.state_dict())
    sampler(epochs=50).load_state_dict(of.state_dict(epoch_over=True))


def test_batches_left_out_in_the_middle_are_warned_of():
    of = sampler("none")
    index = list(of)
    step(of, index[:10])
    step(of, index[60:])
    with pytest.warns(RuntimeWarning, match="only 153 samples came"):
        of.set_epoch(1)


def test_static_with_arrays():
    keep = np.arange(SAMPLES) % 2 == 0
    assert len(sampler("static", epochs=1, given={"keep": keep}, score="difference")) == keep.sum()
    with pytest.raises(InputError, match="given: got weight; static reads keep and weight"):
        sampler("static", given={"weight": np.ones(SAMPLES, np.float32)})
    with pytest.raises(InputError, match="both given= and the file x.h5"):
        sampler("static", given={"keep": keep}, selection="x.h5")


def test_more_ranks_than_samples():
    with pytest.raises(InputError, match="got 2 samples on 3 ranks"):
        run(3, lambda comm: Filter(2, "none", comm=comm))


@pytest.mark.parametrize("changes, message", [
    ({"policy": "seta"}, "policy: got a state of infobatch, expected seta"), ({"num_samples": 300}, "samples: got a state of 203, expected 300"),
    ({"seed": 1}, "seed: got a state of 11, expected 1"), ({"r": 0.4}, "parameters: got a state of .*\"r\": 0.5"),
    ({"score": "ema"}, "score: got a state of loss, expected ema alpha=0.9"),
    ({"labels": LABELS}, "given: got a state of "), ({"order": "shard"}, "order: got a state of global"),
])
def test_the_state_of_another_filter(changes, message):
    of = sampler()
    list(of)
    state = of.state_dict()
    arguments = {"num_samples": SAMPLES, "policy": "infobatch", "epochs": EPOCHS, "seed": SEED, **changes}

    def load(comm):
        Filter(comm=comm, **arguments).load_state_dict(state)

    with pytest.raises(InputError, match=message):
        run(2, load)


@pytest.mark.parametrize("damage", [lambda s: s.pop("scores.seen"), lambda s: s.update({"scores.seen": torch.zeros(3)}), lambda s: s.clear(),
                                    lambda s: s.update(epoch=None), lambda s: s.update(consumed=10**6), lambda s: s.pop("over"),
                                    lambda s: s.pop("trained.index"), lambda s: s.update({"looked.value": torch.zeros(4)}),
                                    lambda s: s.update({"trained.index": torch.tensor([SAMPLES])})])
def test_a_damaged_state(damage):
    of = sampler()
    state = of.state_dict()
    damage(state)
    with pytest.raises(InputError, match="Filter: "):
        sampler().load_state_dict(state)


def test_shard_order_in_mid_epoch_stays_on_its_ranks():
    def first(comm):
        of = make(comm, "infobatch", "shard")
        train(of, stop=(1, 1))
        return of.state_dict()

    state = run(2, first)[0]
    with pytest.raises(InputError, match="begun on 2 ranks, expected 3"):
        run(3, lambda comm: make(comm, "infobatch", "shard").load_state_dict(state))


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
    columns = {"keep": (np.uint8, [keep.astype(np.uint8)]), "weight": (np.float32, [np.ones(SAMPLES, np.float32)])}
    write_table(tmp_path / "s.h5", SAMPLES, columns, {"data": "any", "kept": int(keep.sum())})
    assert sorted(sampler("static", selection=tmp_path / "s.h5")) == np.flatnonzero(keep).tolist()
    with pytest.raises(InputError, match="203 samples, expected any with 100"):
        Filter(100, "static", comm=SerialComm(), epochs=3, selection=tmp_path / "s.h5")


def test_a_data_set_of_another_length():
    with pytest.raises(InputError, match="got a data set of 5 samples, expected 203"):
        sampler("none").indexed(range(5))


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


def test_without_a_launcher_there_is_one_rank():
    assert surroundings().size == 1


@pytest.mark.parametrize("name", ["horovod", "ddp"])
def test_an_example_changes_five_lines(name):
    plain, filtered = ((CHECKOUT / "jobs" / "examples" / f"{name}_{kind}.py").read_text().splitlines()[1:] for kind in ("plain", "filtered"))
    new = [line for line in difflib.ndiff(plain, filtered) if line.startswith("+ ") and line[2:].strip()]
    assert len(new) <= 5


def accuracies(done):
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"epoch\s+(\d+)\s+trained (\d+)\s+accuracy ([\d.]+)", done.stdout)
    assert len(rows) == 15
    return [int(trained) for _, trained, _ in rows], float(rows[-1][2])


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.parametrize("name", ["horovod", "ddp"])
def test_an_example_on_real_ranks(name, real_ranks, port):
    """Plain and filtered under mpirun: as accurate, with fewer samples."""
    pytest.importorskip("sklearn")
    results = {}
    for kind in ("plain", "filtered"):
        script = CHECKOUT / "jobs" / "examples" / f"{name}_{kind}.py"
        words = [script] if name == "horovod" else [CHECKOUT / "tests" / "parallel" / "as_torchrun.py", port, script]
        results[kind] = accuracies(run_local(2, words, TIMEOUT, capture=True))
    (all_samples, plain), (kept, filtered) = results["plain"], results["filtered"]
    assert set(all_samples) == {1400} and kept[0] == kept[-1] == 1400 and max(kept[1:13]) < 1200
    assert plain > 85 and filtered > plain - 4


@pytest.mark.parametrize("ranks", [2, 3])
def test_the_laws_of_communicators_hold_for_torch(ranks, real_ranks, port):
    words = [CHECKOUT / "tests" / "parallel" / "as_torchrun.py", port, CHECKOUT / "tests" / "parallel" / "comm_laws_torch.py"]
    done = run_local(ranks, words, TIMEOUT, capture=True)
    assert done.returncode == 0 and done.stdout.count("held") == 4 + (ranks == 3), done.stderr
