"""Promises of the configs: the shipped ones, and those with mistakes."""

import re
from pathlib import Path

import pytest

from vidrestore.errors import OptionsError
from vidrestore.training.config import TrainConfig

CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.mark.parametrize("name", ["train_gpen_lite", "train_gpen_lite_refine", "train_gpen_512"])
def test_shipped_configs_are_valid(name: str) -> None:
    config = TrainConfig.from_toml(CONFIGS / f"{name}.toml")
    assert config.name.startswith("gpen-")
    assert TrainConfig.from_table(config.as_table()).as_table() == config.as_table()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("batch_size", "batchsize", "batchsize"),
        (r"batch_size = \d+", 'batch_size = "8"', "batch_size of \\[loop\\] is '8'; it must be of type int"),
        (r"batch_size = \d+", "batch_size = 0", "at least 1"),
        (r"betas = \[.*\]", "betas = 3", "betas are 3"),
        (r"r1 = [\d.]+", "r1 = -1", "cannot be below 0"),
        (r"adversarial = [\d.]+", "path_length = 2.0", "goes with a discriminator"),
        (r"flat_share = [\d.]+", "flat_share = 1.0", "below 1"),
        (r"ema_decay = [\d.]+", "ema_decay = 2.0", "below 1"),
        (r"val_faces = \d+", "val_faces = 2", "at least 3"),
        (r"workers = \d+", "workers = -1", "workers is -1"),
        (r"softest_dropped = [\d.]+", "softest_dropped = 1.5", "softest_dropped is 1.5"),
        (r"webmorph = [\d.]+", 'webmorph = "often"', "source_weights"),
        (r"official = [\d.]+", 'official = "often"', "shares above 0"),
        (r"\[adversarial\]", "[adversarial]\nr1_every_steps = 0", "r1_every_steps is 0"),
        (r"size_px = \d+", "size_px = 48", "power of two"),
        ("name =", 'start = "sideways"\nname =', "sideways"),
        (r"\[loop\]", "[[loop]]", "must be a table"),
        (r"\[loop\]", "[loop", "is not TOML"),
    ],
)
def test_mistakes_in_a_config_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    """The file and what is wrong in it, in one line."""
    text = (CONFIGS / "train_gpen_lite_refine.toml").read_text()
    wrong, num_found = re.subn(old, new, text, count=1)
    assert num_found == 1
    (tmp_path / "run.toml").write_text(wrong)
    with pytest.raises(OptionsError, match=message) as caught:
        TrainConfig.from_toml(tmp_path / "run.toml")
    assert str(tmp_path / "run.toml") in str(caught.value)
    assert "\n" not in str(caught.value)
