"""The marginal pseudo-likelihood as a PyTensor graph; the only place (with links, families, sample) that knows PyTensor."""
