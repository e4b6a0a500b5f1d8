"""python -m benchmarks CASE [...]; without a case, the list of them."""

import importlib
import sys

from hpcfilter.base.errors import InputError
from hpcfilter.base.names import meant

CASES = {
    "demo": "train with and without a filter on two ranks; one table, one picture",
    "accuracy": "test accuracy and passes saved of policies on a packed file, several seeds",
    "invariance": "digests of selection and batches on 1, 2, 3 and 4 real ranks",
    "selection": "cost of one threshold, alone and by class, against all-gather and allreduce",
    "gpu": "one GPU in seven minutes, without Horovod: laws, loop, scoring, hidden samples, accuracy",
    "growth": "cost of one threshold as keys and ranks grow, beside a model carried to 27,648 ranks",
    "conformance": "every policy against every law, as a table",
    "staleness": "KAKURENBO with cheaper refreshes: how stale the scores become, and what that does",
    "leaving": "seconds until a job ends whose rank fails or hangs, and until it has saved when it is told "
               "to leave",
    "checkpoint": "what saving costs, and what equal bits on three ranks and more cost",
    "faults": "ranks killed at random again and again: every checkpoint readable, "
              "every resumed run equal bits",
    "corruption": "single corruptions of checkpoints, packed data and tables: how many are detected",
    "reader": "filtered, shuffled rows against np.take from memory and the ways of h5py; "
              "bytes from a cold disk",
    "loop": "training without a filter against a minimal hand-written Horovod loop",
    "epoch": "the time of an epoch in which a share of the samples is hidden",
    "scoring": "samples per second of scoring against training",
    "allreduce": "what an allreduce costs; the alpha-beta model fitted to it and carried to 27,648 ranks",
    "scaling": "a study of several numbers of ranks, weak and strong, with and without a filter",
    "goals": "the goals of speed beside what was measured, for the pages of docs/",
    "evidence": "policies, fractions, batch sizes and seeds from a plan, beside all data, "
                "a shortened schedule and random choice",
    "screenshot": "the page of runs as a headless browser shows it, by day, by night, on a phone",
    "digests": "digests of selection, batches and weights of runs of every kind, to compare before and after "
               "a change",
    "order": "cost of the epoch's order: keyed bijection against a permutation array",
}


def main(words):
    if not words or words[0] not in CASES:
        print("\n".join(f"{name:12} {what}" for name, what in CASES.items()))
        if words:
            print(f"benchmarks: unknown '{words[0]}'{meant(words[0], CASES)}", file=sys.stderr)
        return 0 if not words else 2
    try:
        importlib.import_module(f"benchmarks.{words[0]}").main(words[1:])
    except InputError as error:
        print(f"benchmarks {words[0]}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"benchmarks {words[0]}: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
