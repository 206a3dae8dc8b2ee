"""The table as it came: columns by name, codes of ids, sets of plausible values, codebooks."""
