"""Motorised stages: moving over a slide, and back to a cell."""
