"""The result: its record, its verbs, its words, its file."""
