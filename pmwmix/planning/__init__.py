"""Samples planned before they are drawn: how often effects would be found, by simulation."""
