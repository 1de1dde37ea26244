"""Measures what the exporter costs, and what other packages cost: `make bench`."""
