"""What the ranks can do together: add up gradients and counts, with the right result, and how fast."""

import time
from statistics import median

import numpy as np

from hpcfilter.base.alive import pulse
from hpcfilter.base.errors import Refusal

GRADIENT = 64 << 20  # bytes of float32
COUNTS = 16 << 10  # bytes of int64: one round of a threshold
PERIOD = 7  # small whole numbers are added, so that the sum is exact in any order
ROUNDS = 50


def measure(comm, own):
    """Measure the allreduces of this launch. All ranks must call. own: the facts of this rank.

    Returns {"ranks", "backend": of the counts, "counted": bytes of them, "latency": seconds of their
    allreduce}; where all ranks have torch, with it {"engine", "why", "bytes", "seconds", "wrong": wrong
    elements on all ranks} of a gradient's allreduce by what a run would take, or {"error": why it failed}.
    {} for one process.
    """
    if comm.size == 1:
        return {}
    found = {"ranks": comm.size, "backend": comm.backend, "counted": COUNTS, "latency": latency(comm)}
    if not comm.min(int("error" not in own["torch"])):
        return found
    error, seconds, wrong = "", 0.0, 0
    try:
        engine = engine_for(comm, own["torch"]["device"])
        found |= {"engine": engine.name, "why": engine.why}
        seconds, wrong = allreduce(engine, own["torch"]["device"])
    except (Refusal, RuntimeError, ValueError) as failed:
        # what hpcfilter and the engines raise; on all ranks, or the watchdog ends the job
        error = " ".join(str(failed).split())
    pulse.beat()
    errors = [text.tobytes().decode() for text in comm.allgather(np.frombuffer(error.encode(), np.uint8))]
    if any(errors):
        return {**found, "error": next(filter(None, errors))}
    return {**found, "bytes": GRADIENT, "seconds": float(comm.max(seconds)), "wrong": int(comm.sum(wrong))}


def latency(comm):
    """Seconds that a small integer allreduce takes, the median of some."""
    counts, seconds = np.zeros(COUNTS // 8, np.int64), []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        comm.sum(counts)
        seconds.append(time.perf_counter() - start)
    return median(seconds)


def engine_for(comm, device):
    """What would carry the gradients of a run without a table [exchange]. All ranks must call."""
    import torch

    from hpcfilter.train.exchange import engine_of
    from hpcfilter.train.schema import Exchange

    return engine_of(Exchange(), comm, torch.device(device))


def allreduce(engine, device):
    """Add up a gradient. engine: of train.exchange. Returns (seconds, how many elements are wrong here)."""
    import torch

    comm = engine.comm

    def repeated(period):
        return period.to(device, torch.float32).repeat(GRADIENT // 4 // PERIOD + 1)[: GRADIENT // 4]

    def add_up(name):
        start = time.perf_counter()
        result = engine.sum(mine, name)
        if result.is_cuda:
            torch.cuda.synchronize()
        return result, time.perf_counter() - start

    place = np.arange(PERIOD)
    mine = repeated(torch.from_numpy((place + comm.rank) % PERIOD))
    expected = repeated(torch.from_numpy(((place[:, None] + np.arange(comm.size)) % PERIOD).sum(1)))
    add_up("doctor.first")  # which makes the connections, and brings the ranks to one time
    pulse.beat()
    result, seconds = add_up("doctor")
    return seconds, int((result != expected).sum())
