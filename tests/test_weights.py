import os
import pickle
import random
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vidrestore.errors import WeightsError
from vidrestore.models.catalog import CATALOG, EMBEDDED_RESTORER, spec_of
from vidrestore.models.gpen import Gpen, GpenConfig
from vidrestore.models.spec import ModelSpec
from vidrestore.models.state_dict import MAX_TENSORS_BYTES, read_state_dict
from vidrestore.models.weights import (
    file_sha256,
    find,
    installed_path,
    pin,
    pin_path,
    shipped_folder,
    verify,
)

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


def tiny_gpen_state(size_px: int = 16) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return Gpen(GpenConfig(size_px, 1, 1 / 64, style_dim=16, num_mapping_layers=2)).state_dict()


def equal(state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor] = TENSORS) -> bool:
    return state.keys() == expected.keys() and all(torch.equal(state[key], expected[key]) for key in expected)


# ---- Opening


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".safetensors"])
def test_tensors_come_back_as_they_were_saved(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(TENSORS, path)
    assert equal(read_state_dict(path))


@pytest.mark.parametrize("key", ["g_ema", "params_ema", "params", "state_dict"])
def test_the_right_one_of_several_state_dicts_is_taken(tmp_path: Path, key: str) -> None:
    path = tmp_path / "checkpoint.pth"
    other = {"a.weight": torch.zeros(2, 3), "a.bias": torch.zeros(2)}
    torch.save({"g": other, "d": other, "iteration": 7, key: TENSORS}, path)
    assert equal(read_state_dict(path))


def test_the_mark_of_data_parallel_training_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "parallel.pth"
    torch.save({f"module.{key}": tensor for key, tensor in TENSORS.items()}, path)
    assert equal(read_state_dict(path))


class Malicious:
    """Pickles to a call that makes a folder when it is loaded carelessly."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.victim),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_weights_file_does_not_run(tmp_path: Path, zipped: bool) -> None:
    path, victim = tmp_path / "evil.pth", tmp_path / "it ran"
    torch.save({**TENSORS, "extra": Malicious(victim)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"evil\.pth: damaged, or not a file of weights only"):
        read_state_dict(path)
    assert not victim.exists()


def test_code_in_a_plain_pickle_does_not_run(tmp_path: Path) -> None:
    path, victim = tmp_path / "evil.pt", tmp_path / "it ran"
    path.write_bytes(pickle.dumps(Malicious(victim)))
    with warnings.catch_warnings(record=True, action="always") as said, pytest.raises(WeightsError):
        read_state_dict(path)
    assert not victim.exists()
    assert said == []  # PyTorch asks to file an issue about it


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("<html>404 Not Found</html>\n" * 50)


def truncated(path: Path) -> None:
    (save_file if path.suffix == ".safetensors" else torch.save)({"x": torch.ones(4096)}, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def not_finite(path: Path) -> None:
    tensors = {**TENSORS, "x": torch.tensor([1.0, float("nan")])}
    (save_file if path.suffix == ".safetensors" else torch.save)(tensors, path)


def no_tensors(path: Path) -> None:
    if path.suffix == ".safetensors":
        save_file({}, path)
    else:
        torch.save({"epoch": 3}, path)


def missing(path: Path) -> None:
    assert not path.exists()


@pytest.mark.parametrize("make", [empty, text, truncated, not_finite, no_tensors, missing])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_bad_files_are_refused_in_one_line_that_names_them(
    tmp_path: Path, make: Callable[[Path], None], suffix: str
) -> None:
    path = tmp_path / f"bad{suffix}"
    make(path)
    with pytest.raises(WeightsError) as error:
        read_state_dict(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"0")
    with pytest.raises(WeightsError, match=r"no weights file; these end in \.safetensors, \.pth"):
        read_state_dict(tmp_path / "clip.mp4")


def test_a_file_that_unpacks_to_more_than_4_gib_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    torch.save(TENSORS, path)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    # Let the directory promise 2 GiB for each of three entries, as a compressed bomb would.
    position = content.index(b"PK\x01\x02")
    for _ in range(3):
        content[position + 24 : position + 28] = (2**31).to_bytes(4, "little")
        position = content.find(b"PK\x01\x02", position + 4)
    assert len(entries) > 3
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="refused: it unpacks to 6.0 GiB, more than 4 GiB"):
        read_state_dict(path)


def test_a_tensor_that_claims_to_be_huge_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "huge.pth"
    torch.save({"x": torch.ones(1).expand(MAX_TENSORS_BYTES)}, path)  # one number in the file
    with pytest.raises(WeightsError, match="refused: it unpacks to 16.0 GiB"):
        read_state_dict(path)


# ---- Finding


def put(folder: Path, name: str, content: bytes = b"weights") -> Path:
    path = folder / spec_of(name).file_name
    path.write_bytes(content)
    return path


def test_the_folder_is_the_users_choice_and_else_that_of_the_checkout(
    weights_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vidrestore.models import weights

    assert weights.weights_folder() == weights_folder
    monkeypatch.delenv("VIDRESTORE_WEIGHTS")
    assert weights.weights_folder() == shipped_folder() == Path(__file__).resolve().parents[1] / "weights"


def test_a_file_of_the_right_hash_is_found(weights_folder: Path) -> None:
    path = put(weights_folder, "gpen-bfr-256")
    found = find("gpen-bfr-256")
    assert (found.spec, found.path, found.sha256) == (spec_of("gpen-bfr-256"), path, file_sha256(path))


def test_a_file_of_another_hash_is_refused(weights_folder: Path) -> None:
    put(weights_folder, "gpen-bfr-512")
    with pytest.raises(WeightsError, match=r"GPEN-BFR-512\.pth: damaged .* run `vidrestore models pull gpen-bfr-512`"):
        find("gpen-bfr-512")


def test_a_pinned_file_that_changes_is_refused(weights_folder: Path) -> None:
    path = put(weights_folder, "gpen-bfr-256")
    pin(path)
    assert find("gpen-bfr-256").path == path
    path.write_bytes(b"something else")
    with pytest.raises(WeightsError, match="damaged or another file"):
        find("gpen-bfr-256")


def test_a_damaged_pin_is_no_pass(weights_folder: Path) -> None:
    path = put(weights_folder, "gpen-bfr-256")
    pin_path(path).write_text("trust me\n")
    with pytest.raises(WeightsError, match="does not begin with a sha256"):
        find("gpen-bfr-256")


def test_what_is_not_there_is_named_with_the_way_to_it(weights_folder: Path) -> None:
    with pytest.raises(WeightsError, match="GPEN-BFR-512.pth is not in .*; run `vidrestore models pull gpen-bfr-512`"):
        find("gpen-bfr-512")
    with pytest.raises(WeightsError, match="gpen-5: neither a file nor a model's name, which are: gpen-lite-256, "):
        find("gpen-5")


def test_a_file_of_the_users_own_describes_itself(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_file(tiny_gpen_state(32), path, metadata={"template": "tight", "license": "CC0"})
    spec = find(path).spec
    assert (spec.name, spec.kind, spec.crop_px, spec.template, spec.license) == ("mine", "restorer", 32, "tight", "CC0")


def test_a_checkpoint_without_metadata_is_taken_to_use_gpens_template(tmp_path: Path) -> None:
    path = tmp_path / "official.pth"
    torch.save({"g_ema": tiny_gpen_state(16)}, path)
    spec = find(str(path)).spec
    assert (spec.kind, spec.crop_px, spec.template) == ("restorer", 16, "gpen")


def test_an_unknown_template_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    save_file(tiny_gpen_state(), path, metadata={"template": "profile"})
    with pytest.raises(WeightsError, match="template 'profile' is none of: gpen, tight"):
        find(path)


def test_verify_finds_the_one_damaged_file(weights_folder: Path) -> None:
    pin(put(weights_folder, "gpen-bfr-256"))
    put(weights_folder, "gpen-bfr-1024")
    put(weights_folder, "gpen-bfr-512")
    checks = {check.spec.name: check for check in verify()}
    assert checks.keys() == CATALOG.keys()
    downloadable = [check for check in checks.values() if check.spec.url]
    assert [check.spec.name for check in downloadable if check.problem] == ["gpen-bfr-512"]
    assert [check.spec.name for check in downloadable if check.path is None] == [
        *("gpen-bfr-2048", "retinaface-resnet50", "retinaface-mobilenet0.25"),
        *("vgg19", "alexnet", "arcface-ir-se50"),
    ]
    assert checks["gpen-bfr-256"].sha256 == checks["gpen-bfr-256"].expected_sha256 is not None
    assert checks["gpen-bfr-1024"].sha256 is not None
    assert checks["gpen-bfr-1024"].expected_sha256 is None  # nobody has said what it should be


def test_embedded_models_are_found_beside_a_folder_of_the_users_own(
    weights_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    monkeypatch.setattr("vidrestore.models.weights.shipped_folder", lambda: shipped)
    spec: ModelSpec = spec_of(EMBEDDED_RESTORER)
    assert installed_path(spec) is None
    path = put(shipped, EMBEDDED_RESTORER)
    assert installed_path(spec) == path


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_damaged_files_of_weights_are_read_or_refused_in_one_line(suffix: str, tmp_path: Path) -> None:
    """150 files with bits flipped, cut off, or with a piece in another place."""
    path = tmp_path / f"model{suffix}"
    tensors = {f"layer{number}.weight": torch.ones(4, number + 1) for number in range(6)}
    (save_file if suffix == ".safetensors" else torch.save)(tensors, path)
    whole = path.read_bytes()
    rng = random.Random(0)
    refusals = []
    for _ in range(150):
        damaged = bytearray(whole)
        kind = rng.choice(("bits", "cut", "moved"))
        if kind == "bits":
            for _ in range(rng.randint(1, 20)):
                damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        elif kind == "cut":
            del damaged[rng.randrange(len(damaged)) :]
        else:
            begin, length = rng.randrange(len(damaged)), rng.randint(1, 200)
            piece = damaged[begin : begin + length]
            del damaged[begin : begin + length]
            at = rng.randrange(len(damaged))
            damaged[at:at] = piece
        path.write_bytes(damaged)
        try:
            state = read_state_dict(path)
        except WeightsError as exc:
            refusals.append(str(exc))
        else:
            assert all(torch.isfinite(tensor).all() for tensor in state.values())
    assert len(refusals) > 75
    assert all(line.startswith(str(path)) and "\n" not in line for line in refusals)
