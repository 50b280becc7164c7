"""The errors a user can cause. Only ``h2d.cli`` and ``data_prep.__main__`` print them and exit."""


class H2DError(Exception):
    """What went wrong, naming the file, line or key, and what to do about it.

    Args:
        message: one sentence that names the culprit.
        hint: what to do; may be empty.
    """

    exit_code = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        """Survive the way back from a worker process."""
        return type(self), (self.message, self.hint)


class ConfigError(H2DError):
    """A key, a value or a file of the configuration is wrong."""


class DataError(H2DError):
    """An image, a shard, a manifest or an annotation file is not what it should be."""


class CheckpointError(H2DError):
    """A checkpoint or a pipeline folder is missing, damaged or of another kind."""


class SetupError(H2DError):
    """This machine lacks something: a file, a package, a device, room on the disk."""
