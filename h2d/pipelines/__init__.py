"""How it samples: diffusers pipelines for the hands, for the body around them, and for both in a row."""

from h2d.pipelines.hand import HandOutput, HandPipeline
from h2d.pipelines.outpaint import OutpaintOutput, OutpaintPipeline
from h2d.pipelines.two_stage import TwoStageOutput, TwoStagePipeline

__all__ = ["HandOutput", "HandPipeline", "OutpaintOutput", "OutpaintPipeline", "TwoStageOutput", "TwoStagePipeline"]
