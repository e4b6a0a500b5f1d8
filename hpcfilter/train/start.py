"""Begin with the weights of another run."""

import torch

from hpcfilter.base.errors import InputError
from hpcfilter.train import checkpoint


def start_from(parts, run_dir, key):
    """Take the weights of the newest finished epoch of a run folder. All ranks must call.

    A head of another width keeps the weights that it was made with; that is said in one line. key: of the
    config, which names the folder. Returns hex digest of the weights that the run begins with. Raises
    InputError on all ranks as `check_start`.
    """
    network, mine = parts.network, parts.network.model.state_dict()
    path, theirs, others = parts.comm.on_first(lambda: _fitting(parts, run_dir, key))
    with torch.no_grad():
        network.model.load_state_dict({**theirs, **{name: mine[name] for name in others}})
    made = f"; made anew, since of another shape: {', '.join(others)}" if others else ""
    parts.record.say(f"weights of {path}{made}")
    return network.digest()


def check_start(parts, run_dir, key):
    """Raise InputError on all ranks when the folder has no finished epoch, or its network other
    layers. All ranks must call."""
    parts.comm.on_first(lambda: _fitting(parts, run_dir, key)[0])


def _fitting(parts, run_dir, key):
    """(path of the checkpoint, its weights, the names of those that are of another shape here)."""
    with parts.config.places():
        try:
            path, _ = checkpoint.of_epoch(run_dir)
            theirs, mine = checkpoint.read_weights(path)["model"], parts.network.model.state_dict()
            if missing := sorted({*mine} ^ {*theirs}):
                raise InputError(f"{path}: has another network: {', '.join(missing[:4])} "
                                 f"{'is' if len(missing) == 1 else 'are'} in one alone")
            others = [name for name, tensor in mine.items() if tensor.shape != theirs[name].shape]
            if len(others) == len(mine):
                raise InputError(f"{path}: has another network: no layer has the same shape")
        except InputError as error:
            raise InputError(f"{key}: {error}") from error
    return str(path), theirs, others
