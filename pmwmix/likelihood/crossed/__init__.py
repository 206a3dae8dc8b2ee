"""Random effects of crossed factors: one joint block per connected part."""
