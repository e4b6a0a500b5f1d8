"""How the ranks come to agree on network weights: the only speaker of Horovod, and of torch.distributed's
gradients.

A new kind is a class made from `Exchange` in one file, and an entry in EXCHANGES. The keyword-only parameters
of its constructor are the keys of the table [exchange]. torch and Horovod are imported where there are
gradients: what may stand in [exchange] is known without them.
"""

from hpcfilter.base.registry import bind, choose
from hpcfilter.train.exchange.adasum import Adasum, check_adasum
from hpcfilter.train.exchange.allreduce import Allreduce
from hpcfilter.train.exchange.engines import check_engine, engine_of
from hpcfilter.train.exchange.exchange import Exchange

__all__ = ["EXCHANGES", "Exchange", "check_adasum", "engine_of", "exchange_of", "make_exchange"]

EXCHANGES = {"allreduce": Allreduce, "adasum": Adasum}


def exchange_of(table):
    """What [exchange] names: (class, its parameters). table: train.schema.Exchange. Raises InputError."""
    kind = choose(EXCHANGES, table.kind, "exchange.kind")
    check_engine(table)
    return kind, bind(kind, table.model_extra, "exchange")


def make_exchange(table, comm, engine):
    """The exchange of a run. table: train.schema.Exchange. engine: of `engine_of`. Raises InputError."""
    kind, parameters = exchange_of(table)
    return kind(comm, engine, **parameters)
