"""python -m benchmarks CASE [...]; without a case, the list of them."""

import importlib
import sys

from hpcfilter.errors import InputError

CASES = {
    "demo": "train with and without a filter on two ranks; one table, one picture",
    "accuracy": "test accuracy and passes saved of policies on a packed file, several seeds",
    "invariance": "digests of selection and batches on 1, 2, 3 and 4 real ranks",
    "selection": "cost of one threshold, alone and by class, against all-gather and allreduce",
    "conformance": "every policy against every law, as a table",
    "staleness": "KAKURENBO with cheaper refreshes: how stale the scores become, and what that does",
    "order": "cost of the epoch's order: keyed bijection against a permutation array",
}


def main(words):
    if not words or words[0] not in CASES:
        print("\n".join(f"{name:12} {what}" for name, what in CASES.items()))
        return 0 if not words else 2
    try:
        importlib.import_module(f"benchmarks.{words[0]}").main(words[1:])
    except InputError as error:
        print(f"benchmarks {words[0]}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
