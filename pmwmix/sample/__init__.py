"""Models sampled by NUTS, and what is drawn afterwards."""
