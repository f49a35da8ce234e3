"""Networks: pure modules; the number of dimensions is an argument."""
