"""Applications of the tests; each imports only packages that every environment has."""
