"""Fitting a network with Lightning."""
