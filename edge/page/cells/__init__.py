"""The review page: strips of cells, one cell in detail, naming, keys, pictures."""
