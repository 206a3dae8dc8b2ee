"""Quadrature around conditional modes, for every other outcome."""
