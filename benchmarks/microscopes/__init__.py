"""A model's performance on microscopes that it knows and that it does not."""
