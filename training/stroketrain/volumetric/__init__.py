"""Training the volumetric network: heads prepared, strokes simulated on the fly, weights cut."""
