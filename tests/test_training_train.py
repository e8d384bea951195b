"""Promises of the training loop, its start, its checkpoints and its export."""

import contextlib
import dataclasses
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from vidrestore.errors import OptionsError, SourceError, WeightsError
from vidrestore.face import template_px
from vidrestore.models.gpen import Gpen, GpenConfig
from vidrestore.training.checkpoint import checkpoints
from vidrestore.training.config import AdversarialConfig, LoopConfig, TrainConfig
from vidrestore.training.data import DataConfig, DegradationConfig, FaceSet
from vidrestore.training.discriminator import DiscriminatorConfig
from vidrestore.training.export import export_restorer
from vidrestore.training.losses import LossWeights, psnr_db
from vidrestore.training.packed import LANDMARK_COLUMNS, pack
from vidrestore.training.ranks import Ranks
from vidrestore.training.schedule import learning_rate
from vidrestore.training.start import start_as_identity
from vidrestore.training.train import StopSignal, Trainer, TrainState, train

CONFIGS = Path(__file__).parent.parent / "configs"
CPU = torch.device("cpu")
ALONE = Ranks(0, 1, CPU)
ABSENT_PACKAGES = (
    *("av", "click", "facexlib", "filterpy", "matplotlib", "PIL", "platformdirs", "pooch", "requests", "safetensors"),
    *("scipy", "skimage", "tensorboard", "torchvision", "tqdm"),
)
"""What a machine lent for training may lack."""


def tiny_config(steps: int) -> TrainConfig:
    return TrainConfig(
        name="tiny",
        template="tight",
        license="none",
        data_note="noise",
        model=GpenConfig(32, 1, 0.0625, 16, 2),
        degradation=DegradationConfig(mix={"soft": 1.0}),
        data=DataConfig(workers=0, val_share=0.3, softest_dropped=0.0, shift_px=2),
        losses=LossWeights(smooth_l1=1.0),
        loop=LoopConfig(steps=steps, batch_size=2, compile=False, threads=1, val_faces=4, warmup_steps=2),
    )


def tiny_adversarial_config(steps: int) -> TrainConfig:
    """Everything at once: a discriminator from the second step, both penalties, feature matching."""
    return dataclasses.replace(
        tiny_config(steps),
        losses=LossWeights(l1=1.0, adversarial=0.1, feature_matching=0.1, path_length=2.0),
        discriminator=DiscriminatorConfig(kind="stylegan2", channel_multiplier=1, width=0.0625),
        adversarial=AdversarialConfig(from_step=2, r1_every_steps=2, path_length_every_steps=3),
    )


@pytest.fixture
def faces() -> FaceSet:
    """Twenty smooth "faces" of 32 px."""
    coarse = torch.rand(20, 3, 5, 5, generator=torch.Generator().manual_seed(0)) * 255
    crops = torch.nn.functional.interpolate(coarse, (32, 32), mode="bicubic").clamp(0, 255)
    return FaceSet(
        crops.permute(0, 2, 3, 1).to(torch.uint8).contiguous().numpy(),
        tuple(f"{number}.png" for number in range(20)),
        np.ones(20),
    )


class StopAfter:
    """Says stop once it has been asked so many times, as Ctrl-C would."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    @property
    def is_set(self) -> bool:
        self.looks -= 1
        return self.looks < 0


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> list[str]:
    """Names of the tensors that differ in any bit."""
    others = other.state_dict()
    return [key for key, value in one.state_dict().items() if not torch.equal(value, others[key])]


@pytest.mark.parametrize(("size_px", "multiplier"), [(32, 1), (128, 1), (128, 2)])
def test_an_untrained_network_gives_its_input_back(size_px: int, multiplier: int) -> None:
    """Within 1e-4 in float32, and above 45 dB where training computes in bfloat16."""
    torch.manual_seed(0)
    net = Gpen(GpenConfig(size_px, multiplier, 0.125, 32, 2))
    start_as_identity(net)
    x = torch.rand(2, 3, size_px, size_px) * 2 - 1
    with torch.no_grad():
        assert (net(x) - x).abs().max() < 1e-4
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert psnr_db(net(x).float(), x).min() > 45


def test_the_input_stays_in_sight_while_the_network_learns(faces: FaceSet, tmp_path: Path) -> None:
    """After training, a network whose other colours are taken away returns its input within 1e-4."""
    config = tiny_config(4)
    loop = dataclasses.replace(config.loop, learning_rate=0.05)
    net = train(dataclasses.replace(config, loop=loop), faces, tmp_path, ALONE).net
    channels = net.config.channels(32)
    for to_rgb in (net.generator.to_rgb1, *net.generator.to_rgbs):
        to_rgb.bias.data.zero_()
        kept = to_rgb.conv.weight.data[:, :, channels : channels + 6].clone()
        assert to_rgb.conv.weight.abs().max() > 0.01, "it has learnt something"
        to_rgb.conv.weight.data.zero_()
        if to_rgb is net.generator.to_rgbs[-1]:
            to_rgb.conv.weight.data[:, :, channels : channels + 6] = kept
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        assert (net(x) - x).abs().max() < 1e-4


def test_every_weight_that_matters_can_learn_from_the_identity() -> None:
    """The last ToRGB and the first encoder layer get gradients at the first step, the styled layers at the second."""
    torch.manual_seed(0)
    net = Gpen(GpenConfig(32, 1, 0.125, 16, 2))
    start_as_identity(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    for _ in range(2):
        optimizer.zero_grad()
        (net(x) - 0.5 * x).square().mean().backward()
        optimizer.step()
    silent = [name for name, value in net.named_parameters() if value.grad is None or not value.grad.any()]
    assert silent == []


@pytest.mark.parametrize("make_config", [tiny_config, tiny_adversarial_config])
@pytest.mark.parametrize("cut_after", [1, 4])
def test_a_run_that_was_cut_ends_with_the_same_weights(
    tmp_path: Path, faces: FaceSet, make_config: type, cut_after: int
) -> None:
    """Bit for bit, generator, average and discriminator, whether cut before or after the discriminator joined."""
    config: TrainConfig = make_config(7)
    whole = train(config, faces, tmp_path / "whole", ALONE)
    half = train(config, faces, tmp_path / "cut", ALONE, stop=StopAfter(cut_after))  # type: ignore[arg-type]
    assert half.steps_done == cut_after
    resumed = train(config, faces, tmp_path / "cut", ALONE)
    assert resumed.steps_done == whole.steps_done == 7
    assert same_weights(whole.net, resumed.net) == []
    assert same_weights(whole.ema, resumed.ema) == []
    if whole.discriminator is not None:
        assert resumed.discriminator is not None
        assert same_weights(whole.discriminator, resumed.discriminator) == []
        assert torch.equal(whole.path_length.mean, resumed.path_length.mean)


def test_every_adversarial_part_reaches_the_weights(faces: FaceSet) -> None:
    """Step 6 has both penalties: all losses are there and finite, and both networks move."""
    state = TrainState(tiny_adversarial_config(9), CPU)
    trainer = Trainer(state, ALONE)
    state.steps_done = 6
    before = {key: value.clone() for key, value in state.net.state_dict().items()}
    assert state.discriminator is not None
    judged_before = {key: value.clone() for key, value in state.discriminator.state_dict().items()}
    batch = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    figures = trainer.step(batch, batch.flip(0))
    expected = {"l1", "adversarial", "feature_matching", "path_length", "norm", "discriminator", "r1"}
    assert set(figures) == expected
    assert all(torch.isfinite(value) for value in figures.values())
    assert any(not torch.equal(before[key], value) for key, value in state.net.state_dict().items())
    assert any(not torch.equal(judged_before[key], v) for key, v in state.discriminator.state_dict().items())


def test_before_its_step_the_discriminator_does_nothing(faces: FaceSet) -> None:
    """Until `from_step` the run is the same, bit for bit, as one without a discriminator."""
    plain, adversarial = tiny_adversarial_config(2), tiny_adversarial_config(2)
    plain = dataclasses.replace(plain, losses=LossWeights(l1=1.0))
    nets = []
    for config in (plain, adversarial):
        state = TrainState(config, CPU)
        trainer = Trainer(state, ALONE)
        batch = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
        for _ in range(2):
            trainer.step(batch, batch.flip(0))
        nets.append(state.net)
    assert same_weights(nets[0], nets[1]) == []


def test_two_processes_learn_what_one_learns(tmp_path: Path, faces: FaceSet) -> None:
    """torchrun with 2 processes on gloo, each with half of every batch of 4: within 1e-5 of one process's weights."""
    np.savez(tmp_path / "faces.npz", crops=np.asarray(faces.crops))
    script = tmp_path / "two.py"
    script.write_text(
        "import dataclasses, sys\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        f"sys.path.insert(0, {str(Path(__file__).parent.parent)!r})\n"
        "from test_training_train import two_process_config\n"
        "from vidrestore.training.data import FaceSet\n"
        "from vidrestore.training.ranks import first_alone, joined_ranks\n"
        "from vidrestore.training.train import train\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "crops = np.load(folder / 'faces.npz')['crops']\n"
        "faces = FaceSet(crops, tuple(f'{number}.png' for number in range(20)), np.ones(20))\n"
        "with joined_ranks('cpu') as ranks:\n"
        "    assert ranks.num_ranks == 2\n"
        "    with first_alone(ranks):\n"
        "        assert ranks.is_first or (folder / 'seen').exists()\n"
        "        (folder / 'seen').touch()\n"
        "    train(two_process_config(), faces, folder / 'two', ranks)\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=180, env=environment)
    assert result.returncode == 0, result.stderr[-2000:]
    one = train(two_process_config(), faces, tmp_path / "one", ALONE)
    saved = torch.load(checkpoints(tmp_path / "two")[-1], weights_only=True)
    assert saved["steps_done"] == 4
    for key, value in one.net.state_dict().items():
        torch.testing.assert_close(saved["g"][key], value, atol=1e-5, rtol=1e-5, msg=key)


def two_process_config() -> TrainConfig:
    """In float32 and with small steps: Adam would blow rounding differences of tiny gradients up."""
    config = tiny_config(4)
    return dataclasses.replace(
        config,
        losses=LossWeights(l1=1.0, adversarial=0.1, feature_matching=0.1, r1=1.0),
        discriminator=DiscriminatorConfig(kind="patch", smallest_px=32, base_channels=4),
        adversarial=AdversarialConfig(learning_rate=1e-4, r1_every_steps=2),
        loop=dataclasses.replace(config.loop, batch_size=4, bfloat16=False, learning_rate=1e-4),
    )


def test_ctrl_c_leaves_a_checkpoint(tmp_path: Path, faces: FaceSet) -> None:
    """The signal is sent before the third step: two are done, and saved."""

    class InterruptedFaces:
        """Sends SIGINT when the fifth crop is asked for."""

        asked = 0

        def __getitem__(self, number: int) -> np.ndarray:
            self.asked += 1
            if self.asked == 5 + 4:  # after the validation faces
                os.kill(os.getpid(), signal.SIGINT)
            return np.asarray(faces.crops[number])

    stop = StopSignal()
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        stop.install()
        interrupted = FaceSet(InterruptedFaces(), faces.names, faces.sharpness)
        train(tiny_config(50), interrupted, tmp_path, ALONE, stop=stop)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    assert [path.name for path in checkpoints(tmp_path)] == ["step_00000002.pt"]


@pytest.fixture
def faces_folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Twelve pictures of noise with landmarks, eyes 72 px apart."""
    folder = tmp_path / "faces"
    folder.mkdir()
    rows = ["\t".join(["file", *LANDMARK_COLUMNS])]
    points = template_px("tight", 200).ravel().tolist()
    for number in range(12):
        cv2.imwrite(str(folder / f"{number}.png"), rng.integers(0, 255, (200, 200, 3), dtype=np.uint8))
        rows.append("\t".join([f"{number}.png", *map(str, points)]))
    (folder / "landmarks.tsv").write_text("\n".join(rows) + "\n")
    return folder


def test_the_loop_runs_on_a_machine_lent_for_training(faces_folder: Path, tmp_path: Path) -> None:
    """With PyTorch, NumPy and OpenCV alone: from a packed file, by the module's own command line, to a checkpoint."""
    pack(faces_folder, tmp_path / "all.faces", crop_px=64)
    config = tmp_path / "run.toml"
    config.write_text(
        """
        name = "tiny"
        template = "tight"
        license = "none"
        data_note = "noise"
        model = { size_px = 32, channel_multiplier = 1, width = 0.0625, style_dim = 16, num_mapping_layers = 2 }
        data = { workers = 1, val_share = 0.3, softest_dropped = 0.0, shift_px = 2 }
        degradation = { mix = { call = 0.5, archival = 0.5 } }
        losses = { l1 = 1.0, adversarial = 0.1 }
        discriminator = { kind = "patch", smallest_px = 32, base_channels = 4 }
        loop = { steps = 2, batch_size = 2, compile = false, threads = 1, val_faces = 3 }
        """
    )
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({ABSENT_PACKAGES!r}))\n"
        "from vidrestore.training.train import main\n"
        f"sys.argv[1:] = [{str(config)!r}, '--faces', {str(tmp_path / 'all.faces')!r}, "
        f"'--folder', {str(tmp_path / 'run')!r}, '--device', 'cpu']\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=CONFIGS.parent)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [path.stem for path in checkpoints(tmp_path / "run")] == ["step_00000002"]


def test_a_stop_for_all_processes_leaves_a_checkpoint(faces_folder: Path, tmp_path: Path) -> None:
    """SIGTERM to the whole group, as a job scheduler sends it, once the first checkpoint is there."""
    pack(faces_folder, tmp_path / "all.faces", crop_px=64)
    config = dataclasses.replace(
        tiny_config(100_000),
        data=dataclasses.replace(tiny_config(1).data, workers=1, faces=str(tmp_path / "all.faces")),
        loop=dataclasses.replace(tiny_config(100_000).loop, save_every_steps=1, checkpoints_kept=1, val_faces=3),
    )
    code = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from vidrestore.training.config import TrainConfig\n"
        "from vidrestore.training.train import run\n"
        f"run(TrainConfig.from_table(json.loads({json.dumps(config.as_table())!r})), "
        f"folder=Path({str(tmp_path / 'run')!r}), device='cpu')\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=CONFIGS.parent, start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and not checkpoints(tmp_path / "run"):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.1)
    os.killpg(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert len(checkpoints(tmp_path / "run")) == 1


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_face_ends_the_run_with_one_line_and_a_checkpoint(
    workers: int, tmp_path: Path, faces: FaceSet
) -> None:
    class DamagedFaces:
        """The first faces are sound; whoever asks for a seventh meets a damaged one."""

        asked = 0

        def __getitem__(self, number: int) -> np.ndarray:
            self.asked += 1
            if self.asked > 6 + 4:  # after the validation faces
                raise SourceError("all.faces: face 7 is damaged; pack the faces again")
            return np.asarray(faces.crops[number])

    config = tiny_config(50)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, workers=workers))
    with pytest.raises(SourceError) as caught:
        train(config, FaceSet(DamagedFaces(), faces.names, faces.sharpness), tmp_path, ALONE)
    assert str(caught.value) == "all.faces: face 7 is damaged; pack the faces again"
    assert [path.stem for path in checkpoints(tmp_path)] == ["step_00000003"]
    left = multiprocessing.active_children()
    for worker in left:  # as Python does when it exits, and then waits for ever
        worker.terminate()
        worker.join(60)
    assert not any(worker.is_alive() for worker in left)


def test_penalties_are_in_the_log(tmp_path: Path, faces: FaceSet) -> None:
    """They are taken every 16th and 4th step, and no logged step is one of those: the newest value stands there."""
    config = tiny_adversarial_config(50)
    config = dataclasses.replace(config, adversarial=AdversarialConfig(from_step=2))
    train(config, faces, tmp_path, ALONE)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert {"r1", "path_length", "discriminator", "l1"} <= lines[0]["train"].keys()


def test_an_average_that_a_run_is_started_with_is_not_forgotten(tmp_path: Path) -> None:
    """After one step it is still within 1% of where it was; a fresh one would be half-way to the new weights."""
    config = dataclasses.replace(tiny_config(9), start="random")
    other = Gpen(config.model)
    torch.save(other.state_dict(), tmp_path / "bare.pth")
    state = TrainState(config, CPU)
    state.start_from(tmp_path / "bare.pth")
    state.net.generator.input.input.data += 1.0
    batch = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    Trainer(state, ALONE).step(batch, batch.flip(0))
    moved = (state.ema.generator.input.input - other.generator.input.input).abs().max()
    assert 0 < moved < 0.01


def test_only_the_newest_checkpoints_stay(tmp_path: Path) -> None:
    state = TrainState(tiny_config(9), CPU)
    for step in (1, 2, 3):
        state.steps_done = step
        state.save(tmp_path)
    (tmp_path / "step_00000009.part").write_bytes(b"cut short")
    assert [path.name for path in checkpoints(tmp_path)] == ["step_00000002.pt", "step_00000003.pt"]


def test_a_checkpoint_of_another_network_is_refused_in_one_line(tmp_path: Path) -> None:
    path = TrainState(tiny_config(9), CPU).save(tmp_path)
    other = dataclasses.replace(tiny_config(9), model=GpenConfig(32, 1, 0.125, 16, 2))
    for load in (TrainState(other, CPU).resume, TrainState(other, CPU).start_from):
        with pytest.raises(WeightsError) as caught:
            load(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_checkpoint_of_the_official_script_goes_on(shared: Path, tmp_path: Path, faces: FaceSet) -> None:
    """Golden generator and discriminator in the official layout: the run begins with exactly these weights."""
    generator = load_file(shared / "golden" / "gpen_64_narrow0.125.safetensors")
    discriminator = load_file(shared / "golden" / "discriminator_64_narrow0.125.safetensors")
    average = {key: value + 0.25 for key, value in generator.items()}
    tables = {"g": generator, "d": discriminator, "g_ema": average, "g_optim": {}, "d_optim": {}}
    torch.save(tables, tmp_path / "010000.pth")
    config = tiny_adversarial_config(3)
    config = dataclasses.replace(
        config,
        start="random",
        model=GpenConfig(64, 1, 0.125, 512, 8),
        discriminator=DiscriminatorConfig(kind="stylegan2", channel_multiplier=1, width=0.125),
    )
    state = TrainState(config, CPU)
    state.start_from(tmp_path / "010000.pth")
    assert state.discriminator is not None
    for net, tensors in ((state.net, generator), (state.ema, average), (state.discriminator, discriminator)):
        assert net.state_dict().keys() == tensors.keys()
        assert all(torch.equal(value, tensors[key]) for key, value in net.state_dict().items())


def test_a_new_run_begins_with_a_bare_generator(tmp_path: Path, faces: FaceSet) -> None:
    """As released (.pth) and as we ship it (.safetensors)."""
    torch.manual_seed(5)
    trained = Gpen(tiny_config(1).model)
    torch.save(trained.state_dict(), tmp_path / "bare.pth")
    save_file(trained.state_dict(), tmp_path / "bare.safetensors")
    for name in ("bare.pth", "bare.safetensors"):
        state = TrainState(dataclasses.replace(tiny_config(1), start="random"), CPU)
        state.start_from(tmp_path / name)
        assert same_weights(state.net, trained) == same_weights(state.ema, trained) == []
        with pytest.raises(WeightsError, match='set start = "random"'):
            TrainState(tiny_config(1), CPU).start_from(tmp_path / name)


def test_our_checkpoint_reads_as_an_official_one(tmp_path: Path, faces: FaceSet) -> None:
    """`g`, `d`, `g_ema`, `g_optim` and `d_optim` are where the official script looks for them."""
    train(tiny_adversarial_config(3), faces, tmp_path, ALONE)
    saved = torch.load(checkpoints(tmp_path)[-1], weights_only=True)
    assert {"g", "d", "g_ema", "g_optim", "d_optim"} <= saved.keys()
    assert saved["g"].keys() == saved["g_ema"].keys()
    assert {"state", "param_groups"} <= saved["g_optim"].keys()


@pytest.mark.parametrize("half", [True, False])
def test_an_export_loads_into_gpen_and_says_what_it_is(tmp_path: Path, faces: FaceSet, half: bool) -> None:
    state = train(tiny_config(2), faces, tmp_path / "run", ALONE)
    target = tmp_path / "weights" / "tiny.safetensors"
    export_restorer(tmp_path / "run", target, half=half)
    net = Gpen.from_state_dict(load_file(target))
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        assert (net(x) - state.ema(x)).abs().max() < (5e-3 if half else 1e-6)
    with safe_open(target, "pt") as file:
        metadata = file.metadata()
    expected = {"kind": "restorer", "name": "tiny", "template": "tight", "crop_px": "32", "license": "none"}
    assert expected.items() <= metadata.items()
    assert metadata["commit"]
    assert float(metadata["val_psnr"]) > 0


def test_a_run_can_be_watched(tmp_path: Path, faces: FaceSet) -> None:
    """Scalars and grids for TensorBoard, a line of figures for each validation, a grid of 3 rows of 4 faces."""
    pytest.importorskip("tensorboard")
    train(tiny_config(2), faces, tmp_path, ALONE)
    assert any((tmp_path / "tensorboard").glob("events.*"))
    assert '"clean_psnr"' in (tmp_path / "log.jsonl").read_text()
    grid = cv2.imread(str(tmp_path / "grid_00000002.png"))
    assert grid is not None
    assert grid.shape == (3 * 32, 4 * 32, 3)


@pytest.mark.parametrize("name", ["train_gpen_lite", "train_gpen_512"])
def test_shipped_configs_are_valid(name: str) -> None:
    config = TrainConfig.from_toml(CONFIGS / f"{name}.toml")
    assert config.name.startswith("gpen-")
    assert TrainConfig.from_table(config.as_table()).as_table() == config.as_table()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("batch_size", "batchsize", "batchsize"),
        ("batch_size = 8", 'batch_size = "8"', "batch_size of \\[loop\\] is '8'; it must be of type int"),
        ("batch_size = 8", "batch_size = 0", "at least 1"),
        ("betas = [0.5, 0.99]", "betas = 3", "betas are 3"),
        ("r1 = 0.1", "r1 = -1", "cannot be below 0"),
        ("adversarial = 0.01", "path_length = 2.0", "goes with a discriminator"),
        ("flat_share = 0.7", "flat_share = 1.0", "below 1"),
        ("ema_decay = 0.998", "ema_decay = 2.0", "below 1"),
        ("val_faces = 192", "val_faces = 2", "at least 3"),
        ("workers = 1", "workers = -1", "workers is -1"),
        ("softest_dropped = 0.15", "softest_dropped = 1.5", "softest_dropped is 1.5"),
        ("webmorph = 4.0", 'webmorph = "often"', "source_weights"),
        ("official = 0.23", 'official = "often"', "shares above 0"),
        ("from_step = 9000", "r1_every_steps = 0", "r1_every_steps is 0"),
        ("size_px = 256", "size_px = 48", "power of two"),
        ("name =", 'start = "sideways"\nname =', "sideways"),
        ("[loop]", "[[loop]]", "must be a table"),
        ("[loop]", "[loop", "is not TOML"),
    ],
)
def test_mistakes_in_a_config_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    """The file and what is wrong in it, in one line."""
    text = (CONFIGS / "train_gpen_lite.toml").read_text()
    assert old in text
    (tmp_path / "run.toml").write_text(text.replace(old, new, 1))
    with pytest.raises(OptionsError, match=message) as caught:
        TrainConfig.from_toml(tmp_path / "run.toml")
    assert str(tmp_path / "run.toml") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_learning_rate_warms_up_stays_and_falls_to_its_last_share() -> None:
    rates = [learning_rate(1.0, k, 1000, warmup_steps=10, flat_share=0.5, final_share=0.01) for k in range(1001)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10:501] == pytest.approx([1.0] * 491)
    assert rates[1000] == pytest.approx(0.01)
    assert rates[500:] == sorted(rates[500:], reverse=True)
