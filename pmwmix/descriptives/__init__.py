"""Weighted means, spreads, percentiles and shares with plausible values: what is described before models are fitted."""
