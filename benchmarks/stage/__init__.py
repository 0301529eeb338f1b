"""A simulated microscope, and how well a scan counts on it."""
