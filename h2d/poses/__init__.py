"""Where the people to be drawn come from: photographs, keypoint files and shards; their frame, and their hand masks."""

from h2d.poses.scene import Scene, frame_scene
from h2d.poses.sources import read_scene

__all__ = ["Scene", "frame_scene", "read_scene"]
