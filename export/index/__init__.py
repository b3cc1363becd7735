"""Building, converting and reading indexes, and the reference search in NumPy."""
