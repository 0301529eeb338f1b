"""Finds cells in a frame and judges image quality."""
