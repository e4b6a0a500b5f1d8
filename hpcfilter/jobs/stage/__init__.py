"""Data on the nodes' own storage."""
