"""The model file, what reads it and what runs it."""
