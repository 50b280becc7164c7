"""Rendered people showing hand gestures, with exact keypoints and masks: a data set that needs no download."""

from .gestures import GESTURES
from .rendering import Rendered, render_person
from .writing import generate

__all__ = ["GESTURES", "Rendered", "generate", "render_person"]
