"""What was asked, before any data are read: formula, design, settings, checks of arguments."""
