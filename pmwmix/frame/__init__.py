"""From table, formula and design to outcome, columns, groups and weights."""
