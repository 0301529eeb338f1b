"""Archives: up to ten million images to one table, on many cores, resumable."""
