"""What is made of draws: parameters, random effects, rows, correction, the DataTree."""
