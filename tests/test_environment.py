"""The locked packages work together where their own metadata or their imports say otherwise."""

import subprocess
import sys
from importlib import metadata


def test_mediapipe_runs_beside_numpy_2() -> None:
    assert metadata.version("mediapipe") == "0.10.21"  # the last release that carries the Holistic models
    assert int(metadata.version("numpy").split(".")[0]) >= 2  # tests/annotators/test_pose.py runs the graph


def test_tensorboard_starts() -> None:
    """Version 2.20 needs pkg_resources at import, which newer setuptools do not have."""
    code = "from tensorboard import default, program; print(len(default.get_plugins()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > 3
