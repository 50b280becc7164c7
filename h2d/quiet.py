"""Libraries that say only what a user has to know."""

from __future__ import annotations

import logging
import warnings

_EXPECTED = (
    ".*does not have many workers.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*The dirpath has changed from.*",
    ".*callbacks used to create the checkpoint.*",
    ".*`IterableDataset` has `__len__` defined.*",
    ".*Total length of `list` across ranks is zero.*",
    ".*`srun` command is available on your system but is not used.*",
    ".*`broadcast_buffers` is deprecated.*",
    ".*It is recommended to use .*sync_dist=True.*",
    ".*local_dir_use_symlinks.*",
    ".*resuming from a checkpoint that ended before the epoch ended.*",
    ".*isinstance\\(treespec, LeafSpec\\).*",
)
"""Lightning's warnings about what is done here on purpose."""


def quiet_libraries() -> None:
    """Silence bars for files that load in a second, and remarks on choices that are ours; downloads keep their bars."""
    import diffusers.utils.logging as diffusers_logging
    import transformers.utils.logging as transformers_logging
    from huggingface_hub.utils import enable_progress_bars

    transformers_logging.disable_progress_bar()
    diffusers_logging.disable_progress_bar()
    enable_progress_bars()
    for pattern in _EXPECTED:
        warnings.filterwarnings("ignore", pattern)
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.distributed"):
        logging.getLogger(name).setLevel(logging.WARNING)
