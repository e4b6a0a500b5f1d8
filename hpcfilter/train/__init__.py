"""The training run: its loop, and the moments at which it looks up."""

from hpcfilter.train.run import train

__all__ = ["train"]
