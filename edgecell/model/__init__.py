"""The model file, what reads it and what runs it."""

BUNDLED = "bundled"
"""Names the model in the package wherever a model file can be named."""
