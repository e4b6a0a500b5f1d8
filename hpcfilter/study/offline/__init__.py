"""Scores and selections of a finished run, as tables: what one does without training."""
