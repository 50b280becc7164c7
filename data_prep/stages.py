"""The stages that treat every image for itself, in their order."""

from __future__ import annotations

from data_prep import captions, filters, keypoints, masks

STAGES = {stage.STAGE.name: stage.STAGE for stage in (keypoints, masks, captions, filters)}
