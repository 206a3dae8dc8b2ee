"""Words of a survey preset turned into columns of the table at hand."""
