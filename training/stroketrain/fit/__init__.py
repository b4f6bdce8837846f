"""The trainer: what every fit shares, on one device or many, stopped and resumed at any moment."""
