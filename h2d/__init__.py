"""h2d: the open implementation of *Giving a Hand to Diffusion Models* (arXiv 2403.10731)."""

__version__ = "0.1.0"
