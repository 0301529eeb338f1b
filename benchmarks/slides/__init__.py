"""Slides whose cells are known: laid out, filmed, counted."""
