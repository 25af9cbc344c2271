"""Measurements, each a program: `python -m benchmarks.isolation`. Never run as timed tests."""
