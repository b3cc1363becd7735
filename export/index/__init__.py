"""Reading, building and converting indexes, and the NumPy search that answers are compared with."""
