"""The static path in three steps: `score` with a checkpoint, `select` once, then `train`
with the static policy."""
