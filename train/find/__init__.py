"""Trains the finder of cells from packed frames, with PyTorch."""
