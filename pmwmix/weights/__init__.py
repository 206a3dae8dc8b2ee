"""Sampling weights: conditional weights per level, their scaling, the types of replicates; numpy only."""
