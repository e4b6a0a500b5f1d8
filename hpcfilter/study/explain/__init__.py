"""What a name of a run config means: policies, scores, models, tables, keys, machines.

Nothing is written here that stands elsewhere: meanings come from the comments beside the keys, types from
their annotations, the rest from docstrings. It needs neither torch nor MPI.
"""
