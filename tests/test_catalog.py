import re

import pytest
from safetensors import safe_open

from vidrestore.errors import WeightsError
from vidrestore.face import TEMPLATES
from vidrestore.models.catalog import CATALOG, EMBEDDED_DETECTOR, EMBEDDED_RESTORER, RECOMMENDED_RESTORER, spec_of
from vidrestore.models.spec import ModelSpec
from vidrestore.models.weights import pin_path, shipped_folder

ROWS = pytest.mark.parametrize("spec", CATALOG.values(), ids=str)
LOSSES = {"vgg19", "alexnet", "arcface-ir-se50"}
DOCUMENTED = {"gpen-bfr-512", "retinaface-resnet50", "retinaface-mobilenet0.25", *LOSSES}


@ROWS
def test_every_row_says_what_it_is(spec: ModelSpec) -> None:
    assert CATALOG[spec.name] is spec
    assert spec.license
    assert spec.source
    assert spec.url is None or spec.url.startswith("https://")
    assert spec.size_bytes is None or spec.size_bytes > 1_000_000
    assert spec.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", spec.sha256)
    assert (spec.sha256 is not None) == (spec.name in DOCUMENTED)  # no hash is invented, none is lost


@ROWS
def test_every_restorer_has_a_size_and_a_template_that_exists(spec: ModelSpec) -> None:
    if spec.kind == "restorer":
        assert spec.template in TEMPLATES
        assert spec.crop_px in (256, 512, 1024, 2048)
    else:
        assert spec.template is None
        assert spec.crop_px is None


def test_file_names_do_not_collide_on_any_file_system() -> None:
    names = {spec.file_name.lower() for spec in CATALOG.values()}
    assert len(names) == len(CATALOG)


def test_the_embedded_models_need_no_network() -> None:
    assert spec_of(EMBEDDED_RESTORER).url is None
    assert spec_of(EMBEDDED_DETECTOR).url is None
    assert spec_of(RECOMMENDED_RESTORER).url is not None


@pytest.mark.parametrize("name", [EMBEDDED_RESTORER, EMBEDDED_DETECTOR])
def test_an_embedded_file_is_pinned_and_says_the_same_as_its_row(name: str) -> None:
    spec = spec_of(name)
    path = shipped_folder() / spec.file_name
    if not path.is_file():
        pytest.skip(f"{path.name} has not been trained yet")
    assert pin_path(path).is_file()
    with safe_open(path, framework="np") as file:
        metadata = file.metadata() or {}
    assert metadata.get("template", spec.template) == spec.template
    assert path.stat().st_size <= (16e6 if spec.kind == "restorer" else 2e6)


def test_a_network_that_losses_need_is_no_restorer_and_the_hash_is_the_one_in_torchvisions_file_name() -> None:
    assert {spec.name for spec in CATALOG.values() if spec.kind == "loss"} == LOSSES
    for name in ("vgg19", "alexnet"):
        prefix = spec_of(name).file_name.removesuffix(".pth").rpartition("-")[2]
        assert (spec_of(name).sha256 or "").startswith(prefix)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(WeightsError, match="unknown model 'gpen': choose one of gpen-lite-256, gpen-bfr-256"):
        spec_of("gpen")
