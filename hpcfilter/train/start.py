"""Begin with the weights of another run."""

import torch

from hpcfilter.base.errors import InputError
from hpcfilter.train import checkpoint


def start_from(network, run_dir, comm, record):
    """Take the weights of the newest finished epoch of a run folder. All ranks must call.

    A head of another width keeps the weights that it was made with; that is said in one line. Returns hex digest of the weights that were
    read. Raises InputError on all ranks when the folder has none, or the networks have other layers.
    """
    path, _ = comm.on_first(lambda: checkpoint.of_epoch(run_dir))
    theirs = comm.on_first(lambda: checkpoint.read_weights(path))["model"]
    mine = network.model.state_dict()
    with comm.together():
        if missing := sorted({*mine} ^ {*theirs}):
            raise InputError(f"{path}: has another network: {', '.join(missing[:4])} {'is' if len(missing) == 1 else 'are'} in one alone")
        others = [name for name, tensor in mine.items() if tensor.shape != theirs[name].shape]
        if len(others) == len(mine):
            raise InputError(f"{path}: has another network: no layer has the same shape")
    with torch.no_grad():
        network.model.load_state_dict({**theirs, **{name: mine[name] for name in others}})
    made = f"; made anew, since of another shape: {', '.join(others)}" if others else ""
    record.say(f"weights of {path}{made}")
    return network.digest()
