"""Which microscopes a model knows, and whether cells come from one of them."""
