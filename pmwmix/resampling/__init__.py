"""Outcomes drawn from a fit, and its bootstrap: new outcomes or new weights, refits, intervals of any function."""
