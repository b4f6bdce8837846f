"""The engine in a process of its own: start, progress, cancel, crash, and what it needs."""
