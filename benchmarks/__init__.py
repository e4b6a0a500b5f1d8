"""Measurements: python -m benchmarks CASE. Each case prints what it finds and appends one
JSON line per result."""
