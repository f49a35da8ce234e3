"""Experiments: score tables, cross-validation, and measures on results of methods."""
