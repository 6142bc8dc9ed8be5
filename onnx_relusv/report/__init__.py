"""Reports of what was found and done: JSON data, a self-contained HTML page, terminal tables."""
