"""The camera loop."""
