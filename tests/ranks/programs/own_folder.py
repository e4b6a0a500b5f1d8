"""own_folder.py FOLDER RANKS_PER_NODE WORDS...: the command line, each rank in FOLDER/nodeN, as if its node N
had storage of its own."""

import os
import sys

from hpcfilter.cli import main
from hpcfilter.comm import placement

folder, ranks_per_node, *words = sys.argv[1:]
os.chdir(f"{folder}/node{placement().rank // int(ranks_per_node)}")
sys.exit(main(words))
