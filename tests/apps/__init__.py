"""Applications that the tests serve; each imports only what every environment has."""
