"""What labels pictures: poses (MediaPipe), hand masks (SAM, or a fallback without weights), captions (LLaVA)."""
