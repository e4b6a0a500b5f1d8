"""An index that lies on a GPU, played by a tensor that counts how often it is copied back: it is not waited
for, and no wrong order gets through."""

import numpy as np
import pytest
import torch
from filters import sampler
from law_cases import EPOCHS, SEED, network
from law_cases import N as SAMPLES

from hpcfilter.base.errors import InputError
from hpcfilter.comm.threads import run
from hpcfilter.filter import Filter


class OnDevice(torch.Tensor):
    """An index that lies where reading it has to wait: it counts how often it is copied back."""

    copies = 0
    is_cpu = False

    def cpu(self):
        OnDevice.copies += 1
        return self.as_subclass(torch.Tensor)

    def __array__(self, *arguments):
        raise AssertionError("read without a copy")


@pytest.fixture
def on_device():
    OnDevice.copies = 0
    return lambda index: torch.tensor(index).as_subclass(OnDevice)


def trained(of, index, wrap):
    """Train an epoch in batches of 10. Returns the losses that go backward."""
    return [float(of.loss(*(part[batch] for part in network(0)[:1]), wrap(batch),
                          *(part[batch] for part in network(0)[1:])))
            for batch in (index[start : start + 10] for start in range(0, len(index), 10))]


@pytest.mark.parametrize("policy", ["infobatch", "bls", "kakurenbo"])
def test_an_index_on_a_gpu_is_not_copied_back_in_every_step(on_device, policy):
    """The first two batches of an epoch are read at once, the others together at its end: the same losses,
    scores and selections."""
    of, plain = sampler(policy), sampler(policy)
    for epoch in range(2):
        of.set_epoch(epoch)
        plain.set_epoch(epoch)
        OnDevice.copies = 0
        assert trained(of, list(of), on_device) == trained(plain, list(plain), list) and len(of) > 100
        assert OnDevice.copies == 2
        state, expected = of.state_dict(), plain.state_dict()
        assert OnDevice.copies == 3
        for name, value in expected.items():
            np.testing.assert_array_equal(state[name], value, name)
    of.set_epoch(2)
    plain.set_epoch(2)
    assert (np.array_equal(of.scores.importance, plain.scores.importance)
            and np.array_equal(of.selection.keep, plain.selection.keep))


def test_the_memory_of_an_index_on_a_gpu_may_be_used_again(on_device):
    of = sampler("none")
    drawn = list(of)
    held = on_device(drawn[:10])
    for start in range(0, 200, 10):
        held.as_subclass(torch.Tensor).copy_(torch.tensor(drawn[start : start + 10]))
        of.loss(torch.ones(10), held)
    of.loss(torch.ones(3), on_device(drawn[200:]))
    of.set_epoch(1)
    assert (of.scores.seen == 1).all()


@pytest.mark.parametrize("wrong", [0, 1, 2, 7])
@pytest.mark.parametrize("end", [lambda of: of.set_epoch(1), lambda of: of.state_dict()])
def test_a_wrong_order_on_a_gpu_is_refused_before_anything_is_used(on_device, wrong, end):
    """At once in the first two batches; later at the end of the epoch or when a state is taken, and again
    when one tries again."""
    def work(comm):
        of = Filter(SAMPLES, "infobatch", comm=comm, epochs=EPOCHS, seed=SEED)
        parts = [list(of)[start : start + 10] for start in range(0, len(of), 10)]
        if comm.rank == 1:
            parts[wrong] = parts[wrong][::-1]
        try:
            for part in parts:
                of.loss(torch.ones(len(part)), on_device(part))
            assert wrong > 1 or comm.rank == 0
        except InputError as error:
            assert wrong < 2 and comm.rank == 1 and "in another order" in str(error)
        if wrong > 1:
            for _ in range(2):
                with pytest.raises(InputError, match=r"in another order; "
                                                     r"batches must come in the sampler's order") as error:
                    end(of)
                assert error.value.shared
        assert not of.scores.seen.any()
        return True

    assert all(run(2, work))


@pytest.mark.parametrize("index, message", [([[1, 2]], "of shape"), ([0.5, 1.5], "got float"),
                                            ([1] * 204, "they came already|another order")])
def test_what_can_be_no_index_is_refused_at_once_on_a_gpu_too(on_device, index, message):
    of = sampler("none")
    drawn = list(of)
    for start in range(0, 30, 10):
        of.loss(torch.ones(10), on_device(drawn[start : start + 10]))
    with pytest.raises(InputError, match=message):
        of.loss(torch.ones(len(index) if np.ndim(index) == 1 else (1, 2)), on_device(index))


def test_an_index_on_a_gpu_is_read_in_every_step_where_batches_may_be_left_out(on_device):
    of = sampler("none", partial=True)
    drawn = list(of)
    for start in range(0, 200, 20):
        of.loss(torch.ones(10), on_device(drawn[start : start + 10]))
    assert OnDevice.copies == 10
    with pytest.warns(RuntimeWarning,
                      match="only 100 samples came to `loss`; the others keep the scores they had$"):
        of.set_epoch(1)
    assert set(np.flatnonzero(of.scores.seen)) == {i for start in range(0, 200, 20)
                                                   for i in drawn[start : start + 10]}
