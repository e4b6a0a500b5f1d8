"""A model that torch.compile runs, beside the model itself, whose names, hooks and weights stay."""

import os

import torch

from hpcfilter.base.errors import InputError
from hpcfilter.base.own import told
from hpcfilter.train.network.trial import forward_and_back, no_trace

RECOMPILED = 64  # times, at most
GRAPHS = "reduce-overhead", "max-autotune"  # modes that record CUDA graphs


class Compiled:
    """The compiled forward and backward of a model. Its first batches of each size class are compiled when
    they come: some seconds on a small model, minutes on a large one.

    mode: True, or a mode of torch.compile; "reduce-overhead" and "max-autotune" record CUDA graphs, one for
    each size of batch.
    """

    def __init__(self, model, mode, device, ranks_here):
        """ranks_here: on this node; the compilers of several would take each other's cores."""
        import torch._dynamo
        from torch._inductor import config

        # dropout and the like draw what they draw without, not what the compiler would draw
        config.fallback_random = True
        if ranks_here > 1 and "TORCHINDUCTOR_COMPILE_THREADS" not in os.environ:
            config.compile_threads = 1
        # training and looks, sizes of batches, phases: torch's own limit of 8 would end in silence
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, RECOMPILED)
        self._graphs = mode in GRAPHS and device.type != "cpu"
        self._run = torch.compile(model, mode=None if mode is True else mode)

    def __call__(self, x):
        if self._graphs:  # what the last batch has left in the memory of its graph may be written over
            torch.compiler.cudagraph_mark_step_begin()
        return self._run(x)


def try_compiled(network, split, index, part, mode, augment=None):
    """Compile the model by a training step and a look, of which no trace is left. Raises InputError where
    that cannot be.

    split, index, part, augment: as of try_training. mode: train.compile, for the message.
    """
    with no_trace(network.model, network.device):
        rows = split.rows(index)
        images, labels = rows if augment is None else augment(*rows, index, 0, 0)
        try:
            forward_and_back(network, images, labels, part)
            with network.evaluating():
                network.forward(*network.tensors(images, labels))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # of a compiler, and there are many
            needs = ("a C++ compiler such as g++" if network.device.type == "cpu"
                     else "Triton, and a C compiler")
            raise InputError(f"train.compile: got {str(mode).lower()}, but the model cannot be compiled on "
                             f"{network.device}: {told(error)}; expected {needs}, and a model that "
                             "torch.compile takes; or give compile = false") from error
