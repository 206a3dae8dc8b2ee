"""The marginal pseudo-likelihood as a PyTensor graph; with links, families and sample all that knows PyTensor."""
