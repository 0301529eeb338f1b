"""Network architectures, and weights read from elsewhere."""
