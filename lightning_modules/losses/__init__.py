"""Training losses in plain torch."""
