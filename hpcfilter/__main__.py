"""python -m hpcfilter, and python -m mpi4py -m hpcfilter under a launcher."""

import sys


def main():
    """Run the command line of this process. Returns the exit code. A Ctrl-C may come before the command line is imported."""
    try:
        from hpcfilter.cli import main as command
    except KeyboardInterrupt:
        print("hpcfilter: interrupted", file=sys.stderr)
        return 130
    return command()


if __name__ == "__main__":
    sys.exit(main())
