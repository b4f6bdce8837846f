"""The module's panel: one run, its results under the sliders, table, report, batch, sample."""
