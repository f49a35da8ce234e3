"""Subjects without files: brains, thoraces and X-rays computed from a seed."""
