"""Explains why a cell gets its class."""
