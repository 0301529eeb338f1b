"""What `import edgecell` offers; `edgecell/__init__.py` has the names."""
