"""The climb: one problem, one estimate, one judge, replicates; numbers only."""
