"""What a training run is made of: a TOML file, one table for each dataclass."""

import dataclasses
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from vidrestore.errors import OptionsError
from vidrestore.models.gpen import GpenConfig
from vidrestore.training.data import DataConfig, DegradationConfig
from vidrestore.training.discriminator import DiscriminatorConfig
from vidrestore.training.losses import LossWeights

Section = TypeVar("Section")
Start = Literal["identity", "random"]
VAL_THIRDS = ("heavy", "medium", "mild")
"""Validation faces in thirds, from the worst input to the best."""


@dataclass(frozen=True, slots=True)
class LoopConfig:
    """How long and how fast."""

    steps: int
    batch_size: int = 8
    """Faces in a step, over all processes."""
    learning_rate: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.99)
    warmup_steps: int = 100
    flat_share: float = 0.5
    """Part of the run before the learning rate starts to fall (half a cosine)."""
    final_share: float = 0.01
    """Of the learning rate, at the end."""
    ema_decay: float = 0.998
    clip_norm: float = 1.0
    """Longest gradient of the generator, and of the discriminator."""
    seed: int = 1
    threads: int = 2
    """Of each process, on the CPU."""
    bfloat16: bool = True
    """Mixed precision: activations in bfloat16, which needs no scaling of the loss; weights stay float32."""
    compile: bool = True
    val_faces: int = 192
    val_every_steps: int = 500
    save_every_steps: int = 250
    checkpoints_kept: int = 2

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "threads", "val_every_steps", "save_every_steps", "checkpoints_kept"):
            at_least(name, getattr(self, name), 1)
        at_least("val_faces", self.val_faces, len(VAL_THIRDS))
        check_betas(self.betas)
        if not 0 <= self.flat_share < 1:
            raise OptionsError(f"flat_share is {self.flat_share}; it must be from 0 to below 1")
        if not 0 <= self.ema_decay < 1:
            raise OptionsError(f"ema_decay is {self.ema_decay}; it must be from 0 to below 1")
        if self.learning_rate <= 0 or self.clip_norm <= 0:
            raise OptionsError("learning_rate and clip_norm must be above 0")


@dataclass(frozen=True, slots=True)
class AdversarialConfig:
    """When the discriminator plays, and how it learns. Its losses have their weights among the others."""

    from_step: int = 0
    """Before this step the other losses are alone: a discriminator has nothing to teach a network that blurs."""
    learning_rate: float = 2e-3
    betas: tuple[float, float] = (0.0, 0.99)
    """StyleGAN2's."""
    r1_every_steps: int = 16
    path_length_every_steps: int = 4
    """Lazy regularisation: both penalties are rare, and weighted by the steps between."""

    def __post_init__(self) -> None:
        at_least("from_step", self.from_step, 0)
        at_least("r1_every_steps", self.r1_every_steps, 1)
        at_least("path_length_every_steps", self.path_length_every_steps, 1)
        check_betas(self.betas)
        if self.learning_rate <= 0:
            raise OptionsError(f"learning_rate is {self.learning_rate}; it must be above 0")


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """A whole run; one TOML table for each field that is a dataclass."""

    name: str
    """Of the model, and of the run's folder."""
    template: str
    """Key of `face.TEMPLATES`."""
    license: str
    """Of the trained weights: it follows from the data."""
    data_note: str
    """What it was trained on, for the weights' metadata."""
    model: GpenConfig
    degradation: DegradationConfig
    loop: LoopConfig
    start: Start = "identity"
    """"identity": the network adds to its input, which stays in sight (`start.py`); "random": GPEN's own form, for
    large networks and for going on from official checkpoints."""
    data: DataConfig = field(default_factory=DataConfig)
    losses: LossWeights = field(default_factory=LossWeights)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    adversarial: AdversarialConfig = field(default_factory=AdversarialConfig)

    def __post_init__(self) -> None:
        if self.start not in get_args(Start):
            raise OptionsError(f"start is {self.start!r}; it must be one of {', '.join(get_args(Start))}")

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> "TrainConfig":
        """From nested tables, as TOML or `as_table` give them. Raises OptionsError."""
        sections: dict[str, type[Any]] = {
            "model": GpenConfig,
            "degradation": DegradationConfig,
            "loop": LoopConfig,
            "data": DataConfig,
            "losses": LossWeights,
            "discriminator": DiscriminatorConfig,
            "adversarial": AdversarialConfig,
        }
        values = {
            key: section_from(sections[key], f"[{key}]", value) if key in sections else value
            for key, value in table.items()
        }
        return section_from(cls, "the run", values)

    @classmethod
    def from_toml(cls, path: Path) -> "TrainConfig":
        """Raises OptionsError that names the file and what is wrong in it."""
        table = read_toml(path)
        try:
            return cls.from_table(table)
        except OptionsError as exc:
            raise OptionsError(f"{path}: {exc}; mend the file") from exc

    def as_table(self) -> dict[str, Any]:
        """As tables that `from_table` takes back."""
        tables: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return tables


def at_least(name: str, value: int, lowest: int) -> None:
    """Raises OptionsError."""
    if value < lowest:
        raise OptionsError(f"{name} is {value}; it must be at least {lowest}")


def check_betas(betas: Any) -> None:
    """Adam's two. Raises OptionsError."""
    is_pair = isinstance(betas, (list, tuple)) and len(betas) == 2
    if not is_pair or not all(isinstance(beta, (int, float)) and 0 <= beta < 1 for beta in betas):
        raise OptionsError(f"betas are {betas!r}; they must be two numbers from 0 to below 1")


def read_toml(path: Path) -> dict[str, Any]:
    """Raises OptionsError when the file is missing or no TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise OptionsError(f"{path}: cannot be read ({exc.strerror}); name a TOML file") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise OptionsError(f"{path}: is not TOML ({exc}); mend the file") from exc


def section_from(section: type[Section], name: str, table: Any) -> Section:
    """Build a dataclass from a table. Raises OptionsError for an unknown or missing key and a value of another type."""
    if not isinstance(table, Mapping):
        raise OptionsError(f"{name} is {table!r}; it must be a table")
    kinds = {item.name: item.type for item in dataclasses.fields(section)}  # type: ignore[arg-type]
    for key, value in table.items():
        if key not in kinds:
            raise OptionsError(f"{name} has no {key!r}; it has {', '.join(sorted(kinds))}")
        kind = kinds[key]
        wanted = (int, float) if kind is float else kind
        if kind in (bool, int, float, str) and (
            not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool)  # type: ignore[arg-type]
        ):
            raise OptionsError(f"{key} of {name} is {value!r}; it must be of type {kind.__name__}")
    try:
        return section(**table)
    except OptionsError:
        raise
    except (TypeError, ValueError, AttributeError) as exc:  # a value of a kind that the section cannot check
        raise OptionsError(f"{name}: {exc}") from exc
