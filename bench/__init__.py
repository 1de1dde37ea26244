"""What the exporter costs, beside its peers: `make bench`."""
