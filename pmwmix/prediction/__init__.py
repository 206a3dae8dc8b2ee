"""What a fit says of rows, old and new: modes, predictions, residuals."""
