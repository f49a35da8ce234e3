"""One module for each family of file formats; :mod:`msgan.data.volume` chooses among them."""
