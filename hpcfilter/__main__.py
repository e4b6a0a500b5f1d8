"""python -m hpcfilter, and python -m mpi4py -m hpcfilter under a launcher."""

import sys

from hpcfilter.cli import main

sys.exit(main())
