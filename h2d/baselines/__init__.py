"""The compared systems of Table I, each as its authors publish it, behind one protocol."""

from h2d.baselines.catalogue import SYSTEMS, load_system, missing
from h2d.baselines.system import Generated, System

__all__ = ["SYSTEMS", "Generated", "System", "load_system", "missing"]
