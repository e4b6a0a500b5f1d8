"""python -m hpcfilter, and python -m mpi4py -m hpcfilter under a launcher."""

import os
import sys

# python -m looks into the current folder first, where a random.py of the user's would take the place of
# Python's; the command line puts it last
sys.path[:] = [folder for folder in sys.path if folder not in ("", os.getcwd())]


def main():
    """Run the command line of this process. Returns the exit code. A Ctrl-C may come before the
    command line is imported."""
    try:
        from hpcfilter.cli import main as command
    except KeyboardInterrupt:
        print("hpcfilter: interrupted", file=sys.stderr)
        return 130
    return command()


if __name__ == "__main__":
    sys.exit(main())
