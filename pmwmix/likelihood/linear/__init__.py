"""The closed form of the Gaussian model: cross-products, recursion, modes."""
