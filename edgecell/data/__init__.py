"""Labelled cell images: reading, auditing, splitting."""
