"""The scene: volumes, segments and maps as nodes, what made them, and what they hold as arrays."""
