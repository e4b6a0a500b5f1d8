"""What docs/generate.py makes its pages of."""
