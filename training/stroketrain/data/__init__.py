"""From ATLAS trees on disk to batches."""
