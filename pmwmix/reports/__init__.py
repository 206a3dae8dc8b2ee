"""Reports for reviewers: equation, levels, weights, results and checks of a fit, as Markdown, HTML and Word."""
