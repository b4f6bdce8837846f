"""Scans without masks, labelled by a model: what a faster network learns from."""
