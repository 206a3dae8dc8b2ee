"""Verbs that fit again or compare fits: tests, sensitivity, informativeness."""
