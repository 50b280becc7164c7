from h2d.config import compose
from h2d.experiment import Experiment, leaves
from h2d.explain import diff, explain, for_display, listing


def test_every_setting_is_explained_with_its_default() -> None:
    text = explain()
    assert "trainer.devices = 1\n" in text
    assert "data.shards = required" in text
    assert "optim.ema_decay = null" in text
    keys = {line.partition(" = ")[0] for line in text.splitlines() if not line.startswith(" ")}
    assert keys == {key for key, _ in leaves(compose("hand", ["data.shards=x"]).experiment)}


def test_prefix() -> None:
    assert all(line.startswith(("loss.", " ")) for line in explain("loss.").splitlines())
    assert "lambda of Eq. 8" in explain("loss.")


def test_listing_names_what_is_shipped() -> None:
    assert {line.split()[0] for line in listing().splitlines()} >= {"hand", "outpaint", "evaluate", "presets/tiny"}


def test_diff_says_where_each_side_comes_from() -> None:
    text = diff(for_display("hand", ["seed=1"]), for_display("outpaint", []))
    assert "seed: 1 (command line) | 0 (default)" in text
    assert "task: hand (" in text
    assert diff(for_display("hand", []), for_display("hand", [])) == "no difference"


def test_defaults_are_an_experiment() -> None:
    assert Experiment().accumulation == 8
