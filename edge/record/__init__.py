"""The record of a session on disk."""
