"""Experiments: tables, folds and what is measured on results of methods."""
