"""Every model that vidrestore knows by name. Facts about third-party files are as their publishers give them."""

from collections.abc import Mapping

from vidrestore.errors import WeightsError
from vidrestore.models.spec import ModelSpec

EMBEDDED_RESTORER = "gpen-lite-256"
"""The restorer that needs no download."""
EMBEDDED_DETECTOR = "retinaface-lite"
"""The detector that needs no download."""
RECOMMENDED_RESTORER = "gpen-bfr-512"
"""What `--model auto` prefers from here up: four times the pixels of a 256 px model, and faces up to 233 px wide."""

_LITE_LICENSE = "non-commercial research (its training data is partly UTKFace)"
_LITE_SOURCE = "trained by vidrestore.training; see weights/README.md"
_GPEN_LICENSE = "academic and non-commercial use only (terms of the GPEN authors)"
_GPEN_SOURCE = "github.com/yangxy/GPEN@2c73670"
_GPEN_URL = "https://public-vigen-video.oss-cn-shanghai.aliyuncs.com/robin/models"
_GPEN_HIRES_URL = "https://modelscope.cn/models/damo/cv_gpen_image-portrait-enhancement-hires/resolve/master"
_FACEXLIB_SOURCE = "github.com/xinntao/facexlib@260620a"
_FACEXLIB_URL = "https://github.com/xinntao/facexlib/releases/download/v0.1.0"

_TORCHVISION_SOURCE = "torchvision, IMAGENET1K_V1"
_TORCHVISION_URL = "https://download.pytorch.org/models"
_IMAGENET_LICENSE = "BSD-3-Clause (torchvision); trained on ImageNet, which is for non-commercial research"

_MODELS = (
    ModelSpec(
        name=EMBEDDED_RESTORER,
        kind="restorer",
        file_name="gpen-lite-256.safetensors",
        url=None,
        sha256=None,  # changes with each training; the exporter pins it in a .sha256 file beside the weights
        size_bytes=None,
        license=_LITE_LICENSE,
        source=_LITE_SOURCE,
        crop_px=256,
        template="tight",
    ),
    ModelSpec(
        name="gpen-bfr-256",
        kind="restorer",
        file_name="GPEN-BFR-256.pth",
        url=f"{_GPEN_URL}/GPEN-BFR-256.pth",
        sha256=None,
        size_bytes=None,
        license=_GPEN_LICENSE,
        source=_GPEN_SOURCE,
        crop_px=256,
        template="gpen",
    ),
    ModelSpec(
        name="gpen-bfr-512",
        kind="restorer",
        file_name="GPEN-BFR-512.pth",
        url=f"{_GPEN_URL}/GPEN-BFR-512.pth",
        sha256="f1002c41add95b0decad69604d80455576f7187dd99ca16bd611bcfd44c10b51",
        size_bytes=284_085_738,
        license=_GPEN_LICENSE,
        source=_GPEN_SOURCE,
        crop_px=512,
        template="gpen",
    ),
    ModelSpec(
        name="gpen-bfr-1024",
        kind="restorer",
        file_name="GPEN-BFR-1024.pt",
        url=f"{_GPEN_HIRES_URL}/pytorch_model.pt",
        sha256=None,
        size_bytes=None,
        license=_GPEN_LICENSE,
        source=_GPEN_SOURCE,
        crop_px=1024,
        template="gpen",
    ),
    ModelSpec(
        name="gpen-bfr-2048",
        kind="restorer",
        file_name="GPEN-BFR-2048.pth",
        url=f"{_GPEN_URL}/GPEN-BFR-2048.pth",
        sha256=None,
        size_bytes=None,
        license=_GPEN_LICENSE,
        source=_GPEN_SOURCE,
        crop_px=2048,
        template="gpen",
    ),
    ModelSpec(
        name=EMBEDDED_DETECTOR,
        kind="detector",
        file_name="retinaface-lite.safetensors",
        url=None,
        sha256=None,  # as for the embedded restorer
        size_bytes=None,
        license=_LITE_LICENSE,
        source=_LITE_SOURCE,
    ),
    ModelSpec(
        name="retinaface-resnet50",
        kind="detector",
        file_name="detection_Resnet50_Final.pth",
        url=f"{_FACEXLIB_URL}/detection_Resnet50_Final.pth",
        sha256="6d1de9c2944f2ccddca5f5e010ea5ae64a39845a86311af6fdf30841b0a5a16d",
        size_bytes=109_497_761,
        license="MIT",
        source=_FACEXLIB_SOURCE,
    ),
    ModelSpec(
        name="retinaface-mobilenet0.25",
        kind="detector",
        file_name="detection_mobilenet0.25_Final.pth",
        url=f"{_FACEXLIB_URL}/detection_mobilenet0.25_Final.pth",
        sha256="2979b33ffafda5d74b6948cd7a5b9a7a62f62b949cef24e95fd15d2883a65220",
        size_bytes=1_789_735,
        license="MIT",
        source=_FACEXLIB_SOURCE,
    ),
    ModelSpec(
        name="vgg19",
        kind="loss",
        file_name="vgg19-dcbb9e9d.pth",
        url=f"{_TORCHVISION_URL}/vgg19-dcbb9e9d.pth",
        sha256="dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
        size_bytes=574_673_361,
        license=_IMAGENET_LICENSE,
        source=_TORCHVISION_SOURCE,
    ),
    ModelSpec(
        name="alexnet",
        kind="loss",
        file_name="alexnet-owt-7be5be79.pth",
        url=f"{_TORCHVISION_URL}/alexnet-owt-7be5be79.pth",
        sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        size_bytes=244_408_911,
        license=_IMAGENET_LICENSE,
        source=_TORCHVISION_SOURCE,
    ),
    ModelSpec(
        name="arcface-ir-se50",
        kind="loss",
        file_name="recognition_arcface_ir_se50.pth",
        url=f"{_FACEXLIB_URL}/recognition_arcface_ir_se50.pth",
        sha256="a035c768259b98ab1ce0e646312f48b9e1e218197a0f80ac6765e88f8b6ddf28",
        size_bytes=175_367_323,
        license="MIT (facexlib); trained on MS-Celeb-1M, which was for non-commercial research",
        source=f"{_FACEXLIB_SOURCE}, trained by github.com/TreB1eN/InsightFace_Pytorch",
    ),
)

CATALOG: Mapping[str, ModelSpec] = {spec.name: spec for spec in _MODELS}
"""Name -> row. Where sha256 is None no hash is known in public: `models/weights.py` says what takes its place."""


def spec_of(name: str) -> ModelSpec:
    """The row of that name. Raises WeightsError naming the ones there are."""
    if name not in CATALOG:
        raise WeightsError(f"unknown model {name!r}: choose one of {', '.join(CATALOG)}")
    return CATALOG[name]
