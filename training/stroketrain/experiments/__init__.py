"""The papers' tables: one entry per row, run at a budget, collected into one table."""
