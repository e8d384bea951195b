"""How steady restored faces are in scenes with known truth: python tests/bench/temporal.py [STILL ...] [options]

The people of the stills (without any: sample portraits that other packages bring) move along known paths, talk, blink,
turn, meet, are hidden and cut (`temporal_set.py`). Printed are tables, and which of the targets are reached:

- The tracks: as detected in each frame -> as the pipeline has them. A constant bias of each landmark is removed, and
  people of whom less than three landmarks can be seen do not count.
- The faces: each frame restored alone -> by the pipeline with --temporal off, light and strong. Flow-warped difference
  of neighbours in levels, and in brackets that of the clean truth and of the source, with the clean truth's motion;
  gradient energy as a share of that of frames restored alone, and in brackets the latter's of the clean truth's; the
  detail that agrees with the clean truth, as noise does not, as a share of that of frames restored alone; PSNR
  against the clean truth, and in brackets the source's. A face is the ellipse that is restored in full; faces of which
  a landmark is hidden do not count.
- What lips and lids do later than in the clean truth, in frames, and how much of their movement is left: the brightness
  of the place where lips part, and of the eyes.
- Cuts: how many frames come out otherwise when the shots are restored one by one, and by how many levels at most.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from temporal_set import Picture, Points, Scene, apply, make, read_portraits, scripts
from tracking import EYES_PX, NUM_FRAMES

from vidrestore.face import Detection, TrackedFace, template_px
from vidrestore.frame import Frame, FrameFaces
from vidrestore.images import rgb_from_frame
from vidrestore.loading import Models, load_models
from vidrestore.metrics.landmarks import delay_frames, jitter_percent
from vidrestore.metrics.sharpness import gradient_energy, true_detail
from vidrestore.metrics.warping import motion_between, warped_difference
from vidrestore.models.catalog import EMBEDDED_DETECTOR, EMBEDDED_RESTORER
from vidrestore.models.spec import ModelSpec
from vidrestore.options import Options
from vidrestore.pipeline import MAX_WAIT_FRAMES, restored_frames
from vidrestore.report import Report
from vidrestore.stages.align import align_faces, place_faces
from vidrestore.stages.crop_geometry import crop_corners_px, invert, similarity
from vidrestore.stages.detect import detect_faces
from vidrestore.stages.paste import paste_faces
from vidrestore.stages.restore import restore_faces
from vidrestore.stages.track import START_SCORE

MODES = ("off", "light", "strong")
NEAR_EYES = 0.6
"""A face is a person's when its landmarks lie on average nearer than this to the true ones, in eye distances."""
MIN_SEEN = 3
"""Landmarks that must be seen for a face to count."""
FACE_CENTER, FACE_RADII = (0.0, 0.4), (0.85, 0.95)
"""Of the face's ellipse, in face units: inside of the mask's slope, for the template of the embedded restorer."""
MARGIN_PX = 32
"""Around what is compared, so that flow sees where things went."""
MOUTH_PATCH, EYE_PATCH = ((-0.2, 0.0), (0.2, 0.14)), ((-0.14, -0.05), (0.14, 0.06))
"""Corners of what becomes dark when lips part, from the middle of the mouth, and of what lids cover, from the pupil; in
face units."""
PATCH_PX = 12
"""Sampled so finely in both directions."""
ROUNDING_LEVELS = 1 / 3
"""Mean difference of two pictures that are alike but for rounding to whole levels; a still truth has none at all."""


@dataclass(frozen=True, slots=True, eq=False)
class Restored:
    """A scene after one way of restoring it."""

    pictures: list[Picture]
    tracks: list[tuple[tuple[int, Points], ...]]
    """Of each frame, the faces that were restored: number of the track, (5, 2) landmarks."""
    cpu_s: float


def restored_alone(frames: Sequence[Frame], found: Iterable[FrameFaces[Detection]], models: Models) -> Restored:
    """Each frame for itself, its crops by its own detections."""
    begin_s = time.process_time()
    faces = (FrameFaces(look.frame, tuple(map(untracked, sure(look.faces)))) for look in found)
    placed = place_faces(faces, models.restorer.spec, min_face_px=Options().min_face_px, max_faces=None)
    batches = restore_faces(
        align_faces(placed),
        models.restorer,
        Report("", ""),
        batch_size=Options().batch_size,
        max_wait_frames=MAX_WAIT_FRAMES,
    )
    pictures = [rgb_from_frame(done.frame) for done in paste_faces(batches, strength=1.0)]
    return Restored(pictures, [() for _ in frames], time.process_time() - begin_s)


def sure(faces: tuple[Detection, ...]) -> list[Detection]:
    """Those with which a track would begin."""
    return [face for face in faces if face.score >= START_SCORE]


def untracked(face: Detection) -> TrackedFace:
    return TrackedFace(1, face.box_xyxy_px, face.landmarks_px, face.score, face.landmarks_px, 0.0)


def restored(frames: Iterable[Frame], models: Models, options: Options) -> Restored:
    """By the pipeline."""
    begin_s = time.process_time()
    pictures, tracks = [], []
    for done in restored_frames(frames, models, options, Report("", ""), rotation_deg=0):
        pictures.append(rgb_from_frame(done.frame))
        faces = (placed.face for placed in done.faces)
        tracks.append(tuple((face.track_id, face.landmarks_px.astype(np.float64)) for face in faces))
    return Restored(pictures, tracks, time.process_time() - begin_s)


# --- Tracks


def assigned(scene: Scene, faces: list[tuple[tuple[int, Points], ...]]) -> tuple[Points, NDArray[np.int_]]:
    """(T, P, 5, 2) the landmarks found of each person, NaN where not found, and (T, P) the track's number, 0 for none.

    Only people who can be seen are looked for.
    """
    landmarks_px = np.full(scene.places_px.shape, np.nan)
    ids = np.zeros(scene.places_px.shape[:2], int)
    for number, (places_px, is_hidden) in enumerate(zip(scene.places_px, scene.is_hidden, strict=True)):
        people = np.flatnonzero((~is_hidden).sum(axis=1) >= MIN_SEEN)
        if not len(people) or not faces[number]:
            continue
        found = np.stack([points for _, points in faces[number]])
        eyes_px = np.linalg.norm(places_px[people, 1] - places_px[people, 0], axis=-1)
        away = np.linalg.norm(places_px[people, None] - found, axis=-1).mean(axis=-1) / eyes_px[:, None]
        for row, column in zip(*linear_sum_assignment(np.minimum(away, NEAR_EYES)), strict=True):
            if away[row, column] < NEAR_EYES:
                landmarks_px[number, people[row]] = found[column]
                ids[number, people[row]] = faces[number][column][0]
    return landmarks_px, ids


def num_switches(ids: NDArray[np.int_]) -> int:
    """(T, P) -> how often a person's number changed."""
    known = (column[column > 0] for column in ids.T)
    return sum(int(np.count_nonzero(np.diff(column))) for column in known)


def rmse_px(landmarks_px: Points, truth_px: Points) -> float:
    """(T, P, 5, 2) both; the constant bias of each person's points removed."""
    error = landmarks_px - truth_px
    error = error - np.nanmean(error, axis=0)
    return float(np.sqrt(np.nanmean(np.square(error).sum(axis=-1))))


def crop_jitter_percent(landmarks_px: Points, truth_px: Points, spec: ModelSpec) -> float:
    """Of the crop's corners, (T, P, 5, 2) both, in % of the eye distance; people averaged."""
    assert spec.template is not None, "a restorer has a template"
    assert spec.crop_px is not None, "a restorer has a crop size"
    template = template_px(spec.template, spec.crop_px)

    def corners(points: Points) -> Points:
        return np.array([crop_corners_px(similarity(row, template), spec.crop_px) for row in points])

    def with_gaps(points: Points, is_known: NDArray[np.bool_]) -> Points:
        rows = np.full((len(points), 4, 2), np.nan)
        rows[is_known] = corners(points[is_known])
        return rows

    # `jitter_percent` divides by the distance of the first two points, here the crop's side.
    sides_in_eyes = spec.crop_px / float(np.linalg.norm(template[1] - template[0]))
    figures = []
    for found, true in zip(np.moveaxis(landmarks_px, 1, 0), np.moveaxis(truth_px, 1, 0), strict=True):
        is_known = np.isfinite(found).all(axis=(1, 2)) & np.isfinite(true).all(axis=(1, 2))
        if is_known.any():
            figures.append(sides_in_eyes * jitter_percent(with_gaps(found, is_known), with_gaps(true, is_known)))
    return float(np.nanmean(figures))


@dataclass(frozen=True, slots=True)
class TrackFigures:
    rmse_px: tuple[float, float]
    """By each frame's detector, by the pipeline: of the frames in which both have the face."""
    jitter_percent: tuple[float, float]
    crop_jitter_percent: tuple[float, float]
    num_missed: tuple[int, int]
    """Faces to be seen that were not found, over all frames."""
    num_switches: int


def track_figures(scene: Scene, found: list[FrameFaces[Detection]], done: Restored, spec: ModelSpec) -> TrackFigures:
    looks = [tuple((1, face.landmarks_px.astype(np.float64)) for face in sure(look.faces)) for look in found]
    detected_px, was_detected = assigned(scene, looks)
    tracked_px, ids = assigned(scene, done.tracks)
    in_both = (was_detected > 0) & (ids > 0)
    both = [np.where(in_both[..., None, None], points, np.nan) for points in (detected_px, tracked_px)]
    can_be_seen = (~scene.is_hidden).sum(axis=-1) >= MIN_SEEN

    def jitter(points: Points) -> float:
        people = zip(np.moveaxis(points, 1, 0), np.moveaxis(scene.places_px, 1, 0), strict=True)
        return float(np.nanmean([jitter_percent(face, true) for face, true in people]))

    return TrackFigures(
        rmse_px=(rmse_px(both[0], scene.landmarks_px), rmse_px(both[1], scene.landmarks_px)),
        jitter_percent=(jitter(both[0]), jitter(both[1])),
        crop_jitter_percent=(
            crop_jitter_percent(both[0], scene.places_px, spec),
            crop_jitter_percent(both[1], scene.places_px, spec),
        ),
        num_missed=(int((can_be_seen & (was_detected == 0)).sum()), int((can_be_seen & (ids == 0)).sum())),
        num_switches=num_switches(ids),
    )


# --- Pictures


def face_from_frame(places_px: Points) -> Points:
    """(2, 3) px -> face units, of landmarks (5, 2)."""
    return similarity(places_px[:2], np.array([[-0.5, 0.0], [0.5, 0.0]]))


def face_region(scene: Scene, number: int) -> NDArray[np.bool_]:
    """(H, W) the faces of a frame that can be seen wholly."""
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    rim = np.stack([np.cos(angles), np.sin(angles)], axis=-1) * FACE_RADII + FACE_CENTER
    region = np.zeros(scene.clean[number].shape[:2], np.uint8)
    for places_px, is_hidden in zip(scene.places_px[number], scene.is_hidden[number], strict=True):
        if not is_hidden.any():
            rim_px = np.rint(apply(invert(face_from_frame(places_px)), rim)).astype(np.int32)
            cv2.fillPoly(region, [rim_px], 1)
    return region > 0


def window_of(region: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Rows and columns around a region that is not empty."""
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    return (
        slice(max(int(rows[0]) - MARGIN_PX, 0), int(rows[-1]) + 1 + MARGIN_PX),
        slice(max(int(columns[0]) - MARGIN_PX, 0), int(columns[-1]) + 1 + MARGIN_PX),
    )


def patch_levels(picture: Picture, frame_from_face: Points, patch: Sequence[Sequence[float]], place: Points) -> float:
    """Mean luma of a patch about a place; both in face units."""
    u, v = (np.linspace(patch[0][axis], patch[1][axis], PATCH_PX) + place[axis] for axis in (0, 1))
    at_px = apply(frame_from_face, np.stack(np.meshgrid(u, v), axis=-1)).astype(np.float32)
    luma = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    return float(cv2.remap(luma, at_px[..., 0], at_px[..., 1], cv2.INTER_LINEAR).mean())


def mouth_and_lids(scene: Scene, pictures: Sequence[Picture], person: int) -> tuple[Points, Points]:
    """(T,) levels where lips part, and where lids close; NaN where the face cannot be seen wholly."""
    signals = np.full((2, len(pictures)), np.nan)
    for number, picture in enumerate(pictures):
        places_px = scene.places_px[number, person]
        if scene.is_hidden[number, person].any():
            continue
        to_face = face_from_frame(places_px)
        in_face, from_face = apply(to_face, places_px), invert(to_face)
        signals[0, number] = patch_levels(picture, from_face, MOUTH_PATCH, in_face[3:].mean(axis=0))
        signals[1, number] = np.mean([patch_levels(picture, from_face, EYE_PATCH, eye) for eye in in_face[:2]])
    return signals[0], signals[1]


def share_of_movement(truth: Points, signal: Points) -> float:
    """(T,) both: how much of the truth's rise and fall is in the signal; 1 for all, less where it is smeared."""
    known = np.isfinite(truth) & np.isfinite(signal)
    a, b = truth[known] - truth[known].mean(), signal[known] - signal[known].mean()
    return float((a * b).sum() / max((a * a).sum(), 1e-9))


@dataclass(frozen=True, slots=True)
class FaceFigures:
    """Of one way of restoring a scene."""

    warped: float
    """Flow-warped difference of neighbours, in levels."""
    energy: float
    """Mean gradient energy."""
    detail: float
    """Share of the clean truth's gradient that is there; noise does not count."""
    psnr_db: float
    """Against the clean truth."""
    mouth: tuple[float, float]
    """Delay in frames, share of the movement; NaN where it does not move."""
    lids: tuple[float, float]


def face_figures(scene: Scene, pictures: dict[str, list[Picture]]) -> dict[str, FaceFigures]:
    """Of each list of T pictures."""
    warped: dict[str, list[float]] = {name: [] for name in pictures}
    energy: dict[str, list[float]] = {name: [] for name in pictures}
    detail: dict[str, list[float]] = {name: [] for name in pictures}
    squares: dict[str, list[float]] = {name: [] for name in pictures}
    before = np.zeros(scene.clean[0].shape[:2], np.bool_)
    for number, clean in enumerate(scene.clean):
        region = face_region(scene, number)
        if region.any():
            has_pair = before.any() and number not in scene.cuts
            rows, columns = window = window_of(region | before if has_pair else region)
            if has_pair:
                motion = motion_between(scene.clean[number - 1][window], clean[window])
            for name, versions in pictures.items():
                now = versions[number][window]
                energy[name].append(gradient_energy(now, region[window]))
                detail[name].append(true_detail(now, clean[window], region[window]))
                error = now[region[window]].astype(np.float64) - clean[window][region[window]]
                squares[name].append(float(np.square(error).mean()))
                if has_pair:
                    warped[name].append(warped_difference(versions[number - 1][window], now, motion, region[window]))
        before = region
    moves = {name: movements(scene, versions) for name, versions in pictures.items()}
    return {
        name: FaceFigures(
            float(np.nanmean(warped[name])),
            float(np.mean(energy[name])),
            float(np.mean(detail[name])),
            float(10 * np.log10(255**2 / max(float(np.mean(squares[name])), 1e-9))),
            *moves[name],
        )
        for name in pictures
    }


def movements(scene: Scene, pictures: Sequence[Picture]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Of the first person's mouth and lids."""
    truths, signals = mouth_and_lids(scene, scene.clean, 0), mouth_and_lids(scene, pictures, 0)
    figures = [
        (delay_frames(truth, signal), share_of_movement(truth, signal)) if moves.any() else (np.nan, np.nan)
        for truth, signal, moves in zip(truths, signals, (scene.mouth[:, 0], scene.lids[:, 0]), strict=True)
    ]
    return figures[0], figures[1]


# --- Cuts


def influenced(scene: Scene, whole: Restored, models: Models, options: Options) -> tuple[int, int]:
    """Frames that come out otherwise when the shots are restored one by one, and their largest difference in levels."""
    num_frames, largest = 0, 0
    begins = [0, *scene.cuts]
    for begin, end in zip(begins, [*scene.cuts, len(scene.frames)], strict=True):
        alone = restored(scene.frames[begin:end], models, options)
        for picture, same in zip(whole.pictures[begin:end], alone.pictures, strict=True):
            difference = int(cv2.absdiff(picture, same).max())
            num_frames += difference > 0
            largest = max(largest, difference)
    return num_frames, largest


# --- Tables


@dataclass(frozen=True, slots=True)
class Result:
    """Of one scene."""

    name: str
    tracks: TrackFigures
    faces: dict[str, FaceFigures]
    """By "clean", "source", "alone" and the words of --temporal."""
    cuts: dict[str, tuple[int, int]]
    """By the words of --temporal; without those where there is no cut."""
    cpu_s: dict[str, float]
    """By "alone" and the words of --temporal."""


def measured(scene: Scene, models: Models, options: Options, modes: Sequence[str]) -> Result:
    found = list(detect_faces(scene.frames, models.detector, batch_frames=1))
    ways = {"alone": restored_alone(scene.frames, found, models)}
    cuts = {}
    for mode in modes:
        chosen = replace(options, temporal=mode)
        ways[mode] = restored(scene.frames, models, chosen)
        if scene.cuts:
            cuts[mode] = influenced(scene, ways[mode], models, chosen)
    pictures = {name: way.pictures for name, way in ways.items()}
    source = [rgb_from_frame(frame) for frame in scene.frames]
    return Result(
        scene.name,
        track_figures(scene, found, ways[modes[-1]], models.restorer.spec),
        face_figures(scene, {"clean": scene.clean, "source": source, **pictures}),
        cuts,
        {name: way.cpu_s for name, way in ways.items()},
    )


def arrows(values: Iterable[float], places: int) -> str:
    return " -> ".join(f"{value:.{places}f}" for value in values)


def print_tracks(results: Sequence[Result]) -> None:
    print(
        "| scene | RMSE, px | landmark jitter, % | crop jitter, % | missed | id switches |\n|---|---|---|---|---|---|"
    )
    for result in results:
        row = result.tracks
        jitters = f"{arrows(row.jitter_percent, 2)} | {arrows(row.crop_jitter_percent, 2)}"
        missed = " -> ".join(map(str, row.num_missed))
        print(f"| {result.name} | {arrows(row.rmse_px, 2)} | {jitters} | {missed} | {row.num_switches} |")


def print_faces(results: Sequence[Result], modes: Sequence[str]) -> None:
    heads = ("flow-warped difference (clean, source)", "gradient energy (alone)", "true detail", "PSNR, dB (source)")
    print(f"| scene: alone -> {' -> '.join(modes)} | {' | '.join(heads)} |\n|---|---|---|---|---|")
    for result in results:
        faces = result.faces
        ways = [faces[name] for name in ("alone", *modes)]
        warped = (
            f"{arrows((way.warped for way in ways), 2)} ({faces['clean'].warped:.2f}, {faces['source'].warped:.2f})"
        )
        energy = arrows((way.energy / faces["alone"].energy for way in ways[1:]), 2)
        energy += f" ({faces['alone'].energy / faces['clean'].energy:.2f})"
        psnr_db = f"{arrows((way.psnr_db for way in ways), 1)} ({faces['source'].psnr_db:.1f})"
        detail = arrows((way.detail / faces["alone"].detail for way in ways[1:]), 2)
        print(f"| {result.name} | {warped} | {energy} | {detail} | {psnr_db} |")


def print_movements(results: Sequence[Result], modes: Sequence[str]) -> None:
    ways = ("source", "alone", *modes)
    print(f"| scene: {' -> '.join(ways)} | mouth: later by, frames | its movement | lids: later by | their movement |")
    print("|---|---|---|---|---|")
    for result in results:
        cells = []
        for part in ("mouth", "lids"):
            figures = [getattr(result.faces[way], part) for way in ways]
            cells += [arrows((delay for delay, _ in figures), 2), arrows((share for _, share in figures), 2)]
        print(f"| {result.name} | {' | '.join(cells)} |")


def print_cuts(results: Sequence[Result], modes: Sequence[str]) -> None:
    print("| scene | " + " | ".join(f"{mode}: frames, levels" for mode in modes) + " |\n|---|" + "---|" * len(modes))
    for result in results:
        cells = (f"{num_frames}, {levels}" for num_frames, levels in result.cuts.values())
        print(f"| {result.name} | {' | '.join(cells)} |")


def targets(mode: str) -> list[tuple[str, float, Callable[[Result], float]]]:
    """What is aimed at, the most that it may be, and what it is in a scene; NaN where a scene does not tell."""
    return [
        ("RMSE of the landmarks / the detector's", 1.0, lambda row: row.tracks.rmse_px[1] / row.tracks.rmse_px[0]),
        ("crop jitter, %", 0.2, lambda row: row.tracks.crop_jitter_percent[1]),
        ("id switches", 0, lambda row: row.tracks.num_switches),
        ("frames influenced across a cut", 0, lambda row: row.cuts[mode][0] if row.cuts else np.nan),
        ("warped difference / each alone", 0.5, lambda row: row.faces[mode].warped / row.faces["alone"].warped),
        (
            "warped difference / clean truth",
            1.1,
            lambda row: row.faces[mode].warped / max(row.faces["clean"].warped, ROUNDING_LEVELS),
        ),
        ("gradient energy lost", 0.05, lambda row: 1 - row.faces[mode].energy / row.faces["alone"].energy),
        ("mouth delay, frames", 0.5, lambda row: abs(row.faces[mode].mouth[0])),
        ("eyelid delay, frames", 0.5, lambda row: abs(row.faces[mode].lids[0])),
    ]


def print_targets(results: Sequence[Result], modes: Sequence[str]) -> None:
    """How far each is reached, and in which scenes the last mode misses it."""
    heads = (*(f"{mode}: median, largest, reached" for mode in modes), f"missed by {modes[-1]}")
    print("| target | at most | " + " | ".join(heads) + " |")
    print("|---" * (3 + len(modes)) + "|")
    for rows in zip(*(targets(mode) for mode in modes), strict=True):
        cells, missed = [], []
        for _, most, figure in rows:
            figures = {result.name: figure(result) for result in results}
            known = {scene: value for scene, value in figures.items() if np.isfinite(value)}
            missed = [f"{scene} ({value:.2f})" for scene, value in known.items() if value > most]
            values = list(known.values())
            if not values:
                continue
            cells.append(f"{np.median(values):.2f}, {max(values):.2f}, {len(known) - len(missed)} of {len(known)}")
        if cells:
            print(f"| {rows[0][0]} | {rows[0][1]:g} | {' | '.join(cells)} | {', '.join(missed)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stills", nargs="*", type=Path, metavar="STILL", help="portraits; the first is in every scene")
    parser.add_argument("--scene", action="append", metavar="NAME", help="only this scene; may be given more than once")
    parser.add_argument("--mode", action="append", choices=MODES, help="only this --temporal; likewise")
    parser.add_argument("--frames", type=int, default=NUM_FRAMES, help="of each scene (default: %(default)s)")
    parser.add_argument("--eyes", type=float, default=EYES_PX, help="their distance in px (default: %(default)s)")
    parser.add_argument("--model", default=EMBEDDED_RESTORER, help="restoration model (default: %(default)s)")
    chosen = parser.parse_args()
    options = Options(model=chosen.model, detector=EMBEDDED_DETECTOR, device="cpu")
    models = load_models(options)
    all_scripts = scripts(read_portraits(chosen.stills, models.detector), chosen.eyes)
    unknown = [name for name in chosen.scene or () if name not in all_scripts]
    if unknown:
        parser.error(f"no scene {unknown[0]!r}; there are: {'; '.join(all_scripts)}")
    modes = [mode for mode in MODES if mode in (chosen.mode or MODES)]
    results = []
    for name in chosen.scene or all_scripts:
        scene = make(name, all_scripts[name], chosen.frames, chosen.eyes)
        results.append(measured(scene, models, options, modes))
        print(f"{name}: done", flush=True)
    print_tracks(results)
    print_faces(results, modes)
    if talks := [result for result in results if np.isfinite(result.faces["clean"].mouth[0])]:
        print_movements(talks, modes)
    if cut := [result for result in results if result.cuts]:
        print_cuts(cut, modes)
    print_targets(results, modes)
    seconds = {way: sum(result.cpu_s[way] for result in results) for way in ("alone", *modes)}
    print(
        "CPU seconds, alone without detection: " + ", ".join(f"{way} {spent_s:.1f}" for way, spent_s in seconds.items())
    )


if __name__ == "__main__":
    main()
