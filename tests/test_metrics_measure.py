"""Two videos are compared frame by frame, face by face, or refused in one line."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.measured_clips import (
    FACE_PX,
    NUM_FRAMES,
    WIDTH_PX,
    detector_in_crops,
    flickering,
    write_clip,
    write_faces,
)
from vidrestore.errors import SourceError
from vidrestore.face import template_px
from vidrestore.metrics.figures import FIGURES, over_time, squares_px, values_of
from vidrestore.metrics.identity import FaceRecogniser
from vidrestore.metrics.kept_pictures import GAP_LEVEL, MAX_LINES, MAX_STILLS, MAX_TRACKS, SIDE_PX, KeptPictures
from vidrestore.metrics.measure import Measured, measure
from vidrestore.stages.crop_geometry import crop_corners_px, similarity


def figures(measured: Measured) -> dict[str, dict[str, float]]:
    return {figure.key: values_of(figure, measured.tracks) for figure in FIGURES}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """source.mkv, flickering.mkv, soft.mkv, late.mkv and faces.json."""
    folder = tmp_path_factory.mktemp("clips")
    write_clip(folder / "source.mkv")
    write_clip(folder / "flickering.mkv", flickering)
    write_clip(folder / "soft.mkv", lambda picture, _: cv2.GaussianBlur(picture, (0, 0), 1.5))
    write_clip(folder / "late.mkv", numbers=[max(number - 1, 0) for number in range(NUM_FRAMES)])
    write_faces(folder / "faces.json")
    return folder


def measured_against_source(clips: Path, restored: str, reference: str | None = None) -> Measured:
    paths = {"source": clips / "source.mkv", "restored": clips / restored}
    if reference:
        paths["reference"] = clips / reference
    return measure(paths, faces=clips / "faces.json", device="cpu", detector=detector_in_crops())


def test_a_restoration_that_changes_nothing_has_the_figures_of_its_source(clips: Path) -> None:
    found = figures(measured_against_source(clips, "source.mkv"))
    for key in ("warped_difference", "warping_error", "gradient_energy"):
        assert found[key]["restored"] == found[key]["source"]
    assert found["warped_difference"]["source"] < 1.5
    assert found["eyes_delay"]["restored"] == pytest.approx(0, abs=0.02)
    assert found["akd"]["restored"] < 0.01


def test_flicker_is_found_in_levels(clips: Path) -> None:
    """Four levels up and four down are eight from frame to frame."""
    found = figures(measured_against_source(clips, "flickering.mkv"))
    assert found["warped_difference"]["restored"] == pytest.approx(8, abs=0.5)
    more = found["warping_error"]["restored"] - found["warping_error"]["source"]
    assert more == pytest.approx(1000 * (8 / 255) ** 2, rel=0.15)
    assert found["gradient_energy"]["restored"] == pytest.approx(found["gradient_energy"]["source"], rel=0.05)


def test_softness_is_found(clips: Path) -> None:
    found = figures(measured_against_source(clips, "soft.mkv"))
    assert found["gradient_energy"]["restored"] < 0.7 * found["gradient_energy"]["source"]


def test_a_blink_that_comes_a_frame_late_is_found(clips: Path) -> None:
    found = figures(measured_against_source(clips, "late.mkv"))
    assert found["eyes_delay"]["restored"] == pytest.approx(1, abs=0.2)


def test_with_a_reference_both_videos_are_compared_with_it(clips: Path) -> None:
    found = figures(measured_against_source(clips, "flickering.mkv", reference="soft.mkv"))
    assert set(found["warped_difference"]) == {"source", "restored", "reference"}
    assert set(found["psnr_db"]) == {"source", "restored"}
    assert found["psnr_db"]["source"] > found["psnr_db"]["restored"]
    assert set(found["akd"]) == {"source", "restored"}
    # Without one nothing is known of the truth.
    assert figures(measured_against_source(clips, "flickering.mkv"))["psnr_db"] == {}


def test_the_detectors_trembling_shows_in_each_video_and_the_smoothed_crop_does_not(clips: Path) -> None:
    paths = {"source": clips / "source.mkv", "restored": clips / "source.mkv"}
    found = figures(measure(paths, faces=clips / "faces.json", device="cpu", detector=detector_in_crops(1.0)))
    assert found["landmark_jitter"]["source"] == pytest.approx(100 * np.sqrt(12) / 53.7, rel=0.3)
    assert found["crop_jitter"]["source"] > 3
    assert found["crop_jitter"]["restored"] < 1e-6


def test_the_squares_of_all_frames_are_those_of_each(rng: np.random.Generator) -> None:
    template = template_px("gpen", 1)
    landmarks_px = 300 + 90 * template @ np.array([[0.9, 0.4], [-0.4, 0.9]]) + rng.normal(0, 3, (6, 5, 2))
    expected = [crop_corners_px(similarity(points, template), 1) for points in landmarks_px]
    landmarks_px[2] = np.nan
    found = squares_px(landmarks_px)
    assert np.isnan(found[2]).all()
    assert np.delete(found, 2, axis=0) == pytest.approx(np.delete(expected, 2, axis=0), abs=1e-6)


def test_where_the_recogniser_is_installed_every_fifth_frame_is_compared(
    clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Brightness:
        def embeddings(self, crops: list[np.ndarray]) -> np.ndarray:
            angles = [crop.mean() / 100 for crop in crops]
            return np.float32([[np.cos(angle), np.sin(angle)] for angle in angles])

    monkeypatch.setattr(FaceRecogniser, "installed", lambda *_: Brightness())
    measured = measured_against_source(clips, "flickering.mkv")
    assert figures(measured)["ids"] == {"restored": pytest.approx(np.cos(0.04), abs=1e-3)}
    series = measured.tracks[0].videos["restored"].figures["ids"]
    assert np.flatnonzero(np.isfinite(series)).tolist() == [0, 5, 10, 15, 20]
    assert measured.left_out == {}


def test_a_track_has_an_entry_for_each_of_its_frames_and_pictures_of_the_eye_line(clips: Path) -> None:
    measured = measured_against_source(clips, "flickering.mkv")
    (track,) = measured.tracks
    assert (track.track_id, track.first_frame, track.placed_px.shape) == (3, 0, (NUM_FRAMES, 5, 2))
    assert measured.times_s == pytest.approx(np.arange(NUM_FRAMES) / 25)
    series = over_time(FIGURES[0], measured)["restored"]
    assert np.isnan(series[0])
    assert np.isfinite(series[1:]).all()
    assert track.pictures is not None
    lines = track.pictures.eye_lines["restored"].astype(float)
    assert lines.shape == (SIDE_PX, NUM_FRAMES, 3)
    # Flicker is stripes: columns of one frame and the next differ by its eight levels.
    assert np.abs(np.diff(lines.mean(axis=(0, 2)))[:8]).mean() == pytest.approx(8, abs=1)
    assert measured.left_out.keys() <= {"ids"}


def test_faces_that_were_left_alone_are_listed_and_not_measured(clips: Path, tmp_path: Path) -> None:
    paths = {"source": clips / "source.mkv", "restored": clips / "source.mkv"}
    faces = write_faces(tmp_path / "faces.json", left_alone=True, strength=0)
    measured = measure(paths, faces=faces, device="cpu", detector=detector_in_crops())
    assert measured.tracks == ()
    assert measured.presence[3].strengths == [0.0] * NUM_FRAMES


def test_faces_of_whose_restoration_nothing_shows_are_not_measured(clips: Path, tmp_path: Path) -> None:
    """As of one that a tracker took for a face for two frames, and had not begun to fade in."""
    paths = {"source": clips / "source.mkv", "restored": clips / "source.mkv"}
    faces = write_faces(tmp_path / "faces.json", strength=0)
    measured = measure(paths, faces=faces, device="cpu", detector=detector_in_crops())
    assert measured.tracks == ()
    assert list(measured.presence) == [3]


def test_before_and_after_are_of_the_same_frames(clips: Path) -> None:
    """What the detector misses in a bad source, first of all where it trembles most, must not flatter the source."""
    (track,) = measured_against_source(clips, "flickering.mkv").tracks
    jitter = next(figure for figure in FIGURES if figure.key == "landmark_jitter")
    source, restored = track.videos["source"].landmarks_px.copy(), track.videos["restored"].landmarks_px.copy()
    restored[15:] += np.where(np.arange(len(restored) - 15) % 2, 9, -9)[:, None, None]
    source[14:] = np.nan
    videos = {"source": replace(track.videos["source"], landmarks_px=source)}
    videos["restored"] = replace(track.videos["restored"], landmarks_px=restored)
    values = values_of(jitter, [replace(track, videos=videos)])
    assert values["restored"] == pytest.approx(values["source"], abs=0.01)


def test_without_a_faces_file_faces_are_found_and_followed(clips: Path) -> None:
    detector = detector_in_crops()
    inside = detector.faces

    def faces(number: int) -> object:  # first the frames that are looked at, then crops
        return inside(number)  # type: ignore[operator]

    detector.faces = faces  # type: ignore[assignment]
    paths = {"source": clips / "source.mkv", "restored": clips / "flickering.mkv"}
    measured = measure(paths, device="cpu", detector=detector)
    assert not measured.knows_restored
    assert len(measured.times_s) == NUM_FRAMES
    assert measured.presence


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: write_clip(folder / "r.mkv", numbers=range(20)), "r.mkv: ends after 20 frames, where .*source"),
        (lambda folder: write_clip(folder / "r.mkv", numbers=range(30)), "source.mkv: ends after 24 frames"),
        (lambda folder: write_clip(folder / "r.mkv", size=(160, 120)), "r.mkv: its pictures are 160x120"),
        (lambda folder: write_clip(folder / "r.mkv", rate_hz=24), r"r.mkv: frame \d+ comes 0.0\d\d s away"),
    ],
)
def test_a_video_of_something_else_is_refused_in_one_line(clips: Path, tmp_path: Path, make, message: str) -> None:
    paths = {"source": clips / "source.mkv", "restored": make(tmp_path)}
    with pytest.raises(SourceError, match=message) as caught:
        measure(paths, faces=clips / "faces.json", device="cpu", detector=detector_in_crops())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("num_frames", "size", "message"),
    [(20, WIDTH_PX, "lists 20 frames, .* has more"), (30, WIDTH_PX, "lists 30 frames"), (24, 640, "pictures are 640x")],
)
def test_another_runs_faces_file_is_refused(
    clips: Path, tmp_path: Path, num_frames: int, size: int, message: str
) -> None:
    faces = write_faces(tmp_path / "faces.json", num_frames=num_frames, size=size)
    paths = {"source": clips / "source.mkv", "restored": clips / "source.mkv"}
    with pytest.raises(SourceError, match=message):
        measure(paths, faces=faces, device="cpu", detector=detector_in_crops())


def test_pictures_are_kept_of_the_longest_tracks_only() -> None:
    """A film has thousands of tracks; memory must not know."""
    crop = np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)
    kept = KeptPictures(eye_line=0.4)
    for track_id in range(40):
        for frame in range(2 if track_id % 2 else 5):
            kept.add(track_id, 10 * track_id + frame, {"source": crop})
        kept.drop_short({track_id})
    held = [track_id for track_id in range(40) if kept.of(track_id)]
    assert len(held) == MAX_TRACKS
    assert sum(track_id % 2 for track_id in held) <= 1  # the one that may still go on


def test_time_goes_on_in_the_x_t_slice_while_a_face_is_away() -> None:
    kept = KeptPictures(eye_line=0.4)
    for frame in (5, 6, 9):
        kept.add(1, frame, {"source": np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)})
    pictures = kept.of(1)
    assert pictures is not None
    assert pictures.eye_lines["source"][0, :, 0].tolist() == [0, 0, GAP_LEVEL, GAP_LEVEL, 0]


def test_a_long_track_keeps_evenly_spread_stills() -> None:
    kept = KeptPictures(eye_line=0.4)
    crop = np.zeros((FACE_PX, FACE_PX, 3), np.uint8)
    for frame in range(MAX_LINES + 100):
        kept.add(1, frame, {"source": crop})
    pictures = kept.of(1)
    assert pictures is not None
    assert pictures.eye_lines["source"].shape == (SIDE_PX, MAX_LINES, 3)
    assert MAX_STILLS / 2 <= len(pictures.still_frames) <= MAX_STILLS
    assert len(set(np.diff(pictures.still_frames).tolist())) == 1
    assert pictures.still_frames[-1] > 0.8 * MAX_LINES
