"""Training with PyTorch from packed cells: one job for a machine with a GPU."""
