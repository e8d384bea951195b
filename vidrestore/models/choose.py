"""`--model auto`: which of the installed restorers suits a clip."""

from collections.abc import Sequence

import numpy as np

from vidrestore.face import eye_distance_px, template_px
from vidrestore.models.catalog import CATALOG, EMBEDDED_RESTORER, RECOMMENDED_RESTORER, spec_of
from vidrestore.models.spec import ModelSpec
from vidrestore.models.weights import installed_path, pull_command

CPU_MAX_CROP_PX = 512
"""`--model auto` takes nothing larger on a CPU: a 1024 px face costs four times as much as one of 512 px."""
FACE_WIDTH_PER_EYE_DISTANCE = 2.17
"""Width of a RetinaFace box over the distance of the eyes: median of 10,641 portraits (90% lie in 2.04 to 2.32)."""
LARGE_FACE_PERCENTILE = 90
"""`--model auto` chooses for the larger faces of a clip: the small ones lose nothing in a larger crop."""


def face_width_in_crop_px(spec: ModelSpec) -> float:
    """About how wide a face is in the restorer's crop."""
    assert spec.template is not None, "every restorer's row names its template"
    return eye_distance_px(template_px(spec.template, _side_px(spec))) * FACE_WIDTH_PER_EYE_DISTANCE


def has_choice(*, on_cpu: bool) -> bool:
    """Whether `choose_restorer` has more than the embedded model to take, so that face sizes matter."""
    return any(installed_path(spec) for spec in _downloadable_restorers(on_cpu=on_cpu))


def choose_restorer(face_widths_px: Sequence[float], *, on_cpu: bool) -> tuple[ModelSpec, str]:
    """The restorer to use, and one line for the user on why. Downloads nothing.

    `face_widths_px` are those of the boxes found in the clip; there may be none. Takes the smallest installed GPEN from
    512 px upwards whose crop holds the clip's larger faces at their own resolution (none above `CPU_MAX_CROP_PX` on a
    CPU), else the largest there is, else the embedded model.
    """
    large_px = float(np.percentile(face_widths_px, LARGE_FACE_PERCENTILE)) if len(face_widths_px) else 0.0
    known = _downloadable_restorers(on_cpu=on_cpu)
    ideal = _best_fit(known, large_px)
    installed = [spec for spec in known if installed_path(spec)]
    if installed:
        chosen = _best_fit(installed, large_px)
        line = f"model {chosen.name}, the best installed for faces {large_px:.0f} px wide"
    else:
        chosen = spec_of(EMBEDDED_RESTORER)
        line = f"model {chosen.name}, which ships with vidrestore"
    if chosen != ideal:
        line += f"; for a better one: `{pull_command(ideal)}` (licence: {ideal.license})"
    return chosen, line


def _downloadable_restorers(*, on_cpu: bool) -> list[ModelSpec]:
    """By size, smallest first; on a CPU without those that it had better not be given unasked."""
    specs = [spec for spec in CATALOG.values() if spec.kind == "restorer" and spec.url is not None]
    return sorted((spec for spec in specs if not on_cpu or _side_px(spec) <= CPU_MAX_CROP_PX), key=_side_px)


def _best_fit(specs: Sequence[ModelSpec], face_width_px: float) -> ModelSpec:
    """Of specs sorted by size: the first that is good and holds such a face, else the largest."""
    good_px = _side_px(spec_of(RECOMMENDED_RESTORER))
    fitting = (s for s in specs if _side_px(s) >= good_px and face_width_in_crop_px(s) >= face_width_px)
    return next(fitting, specs[-1])


def _side_px(spec: ModelSpec) -> int:
    assert spec.crop_px is not None, "every restorer's row has a size"
    return spec.crop_px
