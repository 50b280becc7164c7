"""``h2d bench``: speed measured as ratios, the two sides of each taking turns in one process."""
