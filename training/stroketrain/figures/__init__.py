"""The papers' figures, drawn from a cache or from runs, as PNG and SVG."""
