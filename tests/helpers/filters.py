"""A filter on one rank for the tests of the filter, and a step with it on the table of
losses of `law_cases`."""

from law_cases import EPOCHS, SEED, network
from law_cases import N as SAMPLES

from hpcfilter.comm import SerialComm
from hpcfilter.filter import Filter


def sampler(policy="infobatch", **parameters):
    return Filter(SAMPLES, policy, comm=SerialComm(), **{"epochs": EPOCHS, "seed": SEED, **parameters})


def step(of, index, epoch=0):
    losses, logits, labels = (part[index] for part in network(epoch))
    return of.loss(losses, index, logits, labels)
