"""How a model does on microscopes that it knows, and on those that it does not."""
