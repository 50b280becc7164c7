"""How well generated images follow their conditions (Section IV-C), as torchmetrics that reduce over ranks."""
