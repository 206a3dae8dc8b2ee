"""Several models in one table for a paper: text, HTML, LaTeX, Word and Excel from one DataFrame."""
