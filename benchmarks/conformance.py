"""The conformance suite as a table: every policy, its variants, and some with all the guards, against every
law, in both orders, on 1, 2, 3, 4 and 8 simulated ranks. Exits with 1 when a law is broken."""

import argparse
import sys
import traceback
from pathlib import Path

from hpcfilter.select.policies import POLICIES


def main(words):
    parser = argparse.ArgumentParser(prog="python -m benchmarks conformance", description=__doc__)
    parser.add_argument("--policy", nargs="+", help="only these cases")
    words = parser.parse_args(words)
    sys.path.append(str(Path(__file__).parent.parent / "tests" / "helpers"))  # of the suite that pytest runs
    from law_cases import CASES, ORDERS
    from laws import LAWS

    broken = 0
    print("| policy | " + " | ".join(LAWS) + " |\n|---|" + ":-:|" * len(LAWS))
    for case in words.policy or CASES:
        row = [verdict(law, case, ORDERS) for law in LAWS.values()]
        broken += row.count("no")
        name = f"`{case}`" if case in POLICIES else case
        print(f"| {name} | " + " | ".join(row) + " |", flush=True)
    sys.exit(1 if broken else 0)


def verdict(law, case, orders):
    """ "yes", "no" with the reason on the error output, or "-" where the law says nothing of the case."""
    results = []
    for order in orders:
        try:
            results.append(law(case, order))
        except Exception:
            print(f"{law.__name__}, {case}, {order}:\n{traceback.format_exc()}", file=sys.stderr)
            return "no"
    return "-" if all(result == "nothing to say" for result in results) else "yes"
