"""The two papers: recipes of their networks, and their tables, row by row."""
