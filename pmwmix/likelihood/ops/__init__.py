"""PyTensor operations of our own, with their forms in JAX and numba."""
