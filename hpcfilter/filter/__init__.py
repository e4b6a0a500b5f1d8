"""hpcfilter in a training script of your own: a sampler for plain torch DataLoaders, on Horovod or
DistributedDataParallel."""

from hpcfilter.filter.filter import Filter

__all__ = ["Filter"]
