"""Adasum: gradients that agree are averaged, and those that do not are added (Maleki et al., arXiv
2006.02924, equation 3)."""

from typing import Literal

from hpcfilter.base.errors import on_all
from hpcfilter.train.exchange.exchange import Exchange


def check_adasum(parts, what):
    """Raise InputError, as one of all ranks, for a number of gradients that Adasum cannot bring together.

    what: they are of, "ranks" or "nodes".
    """
    if parts & (parts - 1):
        raise on_all("exchange.kind: adasum goes in pairs of pairs and needs 1, 2, 4, 8, ... "
                     f"{what}, got {parts}")


class Adasum(Exchange):
    """Brings together the gradients of the ranks; on GPUs with NCCL those of the nodes, each
    the mean of its ranks. Horovod has it, torch.distributed does not.

    compression: fp16 sends float16.
    """

    def __init__(self, comm, engine, *, compression: Literal["none", "fp16"] = "none"):
        super().__init__(comm, engine)
        self.compression = compression

    def prepare(self, model, optimizer):
        self.batches = self._parts(on_gpus=any(parameter.is_cuda for parameter in model.parameters()))
        return self.engine.connect(model, optimizer, "Adasum", self.compression)

    def divisor(self, batch):
        return batch.total / self.comm.size

    def _parts(self, on_gpus):
        """How many gradients are brought together. Raises InputError on all ranks for a
        number that cannot be."""
        comm = self.comm
        on_gpus = bool(comm.min(int(on_gpus)))  # the same on all ranks, whatever each of them sees
        nodes = comm.size > 1 and self.engine.by_node(on_gpus)
        parts, what = (-(-comm.size // comm.local_size), "nodes") if nodes else (comm.size, "ranks")
        if nodes and int(comm.max(comm.local_size)) != int(comm.min(comm.local_size)):
            raise on_all("exchange.kind: adasum on GPUs needs as many ranks on every node")
        check_adasum(parts, what)
        return parts
