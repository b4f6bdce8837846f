"""Training of the StrokeLesionSeg models: data, simulator, fitting, evaluation, export."""
