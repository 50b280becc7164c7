"""``h2d sample``: pictures from poses."""
