"""The lane on the device makes the video that the stages make, in the same order, whatever fits at once."""

import importlib
import warnings
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.clips import CLIPS
from tests.device_pictures import DEVICES, LAYOUTS, exact_opencv, layout, picture
from tests.faces import face_at
from tests.fakes import FAKE_SHA256, FixedDetector, IdentityRestorer, fake_spec
from tests.fakes import face_at as detected_at
from vidrestore.device.lane import MAX_BATCHES_UNDERWAY, Lane, restored_on_device, works_on_device
from vidrestore.device.planes import Patches
from vidrestore.device.queues import Mark, Queues
from vidrestore.errors import OutOfDeviceMemory, RestoreError
from vidrestore.face import PlacedFace, TrackedFace
from vidrestore.frame import FrameFaces, RestoredFrame
from vidrestore.layout import PixelLayout
from vidrestore.loading import Models
from vidrestore.models.backends.pytorch import PytorchRestorer
from vidrestore.options import Options
from vidrestore.pipeline import restore_video
from vidrestore.report import Report
from vidrestore.stages.align import align_faces, place_faces
from vidrestore.stages.before import look_before
from vidrestore.stages.paste import paste_faces
from vidrestore.stages.restore import restore_faces
from vidrestore.stages.steady import steady_crops, steady_results
from vidrestore.video.read import VideoReader


class Mirrored(nn.Module):
    """(N, 3, S, S) -> its negative, upside down; runs out of memory above `fits` faces."""

    def __init__(self, fits: int = 1000) -> None:
        super().__init__()
        self.fits = fits
        self.batches: list[int] = []

    def forward(self, units: Tensor) -> Tensor:
        self.batches.append(len(units))
        if len(units) > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return -units.flip(2)


def restorer_of(net: nn.Module, device: str = "cpu", crop_px: int = 64) -> PytorchRestorer:
    spec = fake_spec(crop_px=crop_px, template="tight")
    return PytorchRestorer(net, spec=spec, sha256=FAKE_SHA256, device=torch.device(device), dtype=torch.float32)


def clip(
    of: PixelLayout, num_faces: list[int], width_px: int = 317, height_px: int = 239
) -> list[FrameFaces[TrackedFace]]:
    """Frames with so many faces each, of many sizes, angles and strengths; some overlap, some are partly or wholly
    outside."""
    rng = np.random.default_rng(3)
    found = []
    for index, count in enumerate(num_faces):
        faces = []
        for number in range(count):
            center = (float(rng.uniform(-20, width_px + 20)), float(rng.uniform(-20, height_px + 20)))
            side_px = float(np.exp(rng.uniform(np.log(3), np.log(300))))
            face = face_at(center, side_px, float(rng.uniform(-60, 60)), track_id=number + 1)
            faces.append(replace(face, strength=1 - number / 5))
        found.append(FrameFaces(picture(of, width_px, height_px, seed=index), tuple(faces)))
    return found


def portraits(num_frames: int, num_faces: int = 1) -> list[FrameFaces[TrackedFace]]:
    """Frames with so many faces beside one another."""
    faces = [face_at((40.0 + 75 * number, 120.0), 60.0, track_id=number + 1) for number in range(num_faces)]
    return [FrameFaces(picture(layout(), seed=index), tuple(faces)) for index in range(num_frames)]


def by_stages(tracked: list[FrameFaces[TrackedFace]], restorer: PytorchRestorer) -> list[RestoredFrame]:
    aligned = align_faces(place_faces(tracked, restorer.spec, min_face_px=5, max_faces=4))
    restored = restore_faces(aligned, restorer, Report("", ""), batch_size=3, max_wait_frames=4)
    return list(paste_faces(restored, strength=0.9))


def on_device(
    tracked: Iterable[FrameFaces[TrackedFace]],
    restorer: PytorchRestorer,
    report: Report | None = None,
    *,
    batch_size: int = 3,
    strength: float = 0.9,
) -> Iterator[RestoredFrame]:
    return restored_on_device(
        place_faces(tracked, restorer.spec, min_face_px=5, max_faces=4),
        restorer,
        report or Report("", ""),
        batch_size=batch_size,
        max_wait_frames=4,
        strength=strength,
        steady=False,
    )


def assert_alike(one: RestoredFrame, other: RestoredFrame) -> None:
    assert one.source is other.source
    assert [face.face.track_id for face in one.faces] == [face.face.track_id for face in other.faces]
    assert [(face.face.track_id, face.reason) for face in one.skipped] == [
        (face.face.track_id, face.reason) for face in other.skipped
    ]
    for first, second in zip(one.frame.planes, other.frame.planes, strict=True):
        error = np.abs(first.astype(int) - second)
        # Where the crops are a level apart in a sample, what is pasted may be, too, and seldom more in 12 or 16 bits.
        assert error.max() <= max(1, 1 << (one.frame.layout.depth_bits - 8))
        assert (error > 1).mean() <= 0.01


@exact_opencv
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("of", LAYOUTS, ids=lambda of: of.name)
def test_the_video_is_the_one_that_the_stages_make(of: PixelLayout, device: str) -> None:
    tracked = clip(of, [2, 0, 5, 1, 0, 0, 0, 0, 0, 3, 1])
    restorer = restorer_of(Mirrored(), device)
    expected, found = by_stages(tracked, restorer), list(on_device(tracked, restorer))
    assert [done.frame.index for done in found] == list(range(len(tracked)))
    for one, other in zip(expected, found, strict=True):
        assert_alike(one, other)
    assert any(not np.array_equal(done.frame.planes[0], done.source.planes[0]) for done in found)


def steadied(num_frames: int) -> list[FrameFaces[PlacedFace]]:
    """Two people in a noisy picture, one of whom turns, goes and comes back; with what is known from before."""
    rng = np.random.default_rng(4)
    still = picture(layout(), seed=1)
    tracked = []
    for index in range(num_frames):
        light = 1.0 if index % 2 else 0.9
        noisy = (
            np.clip(light * plane + rng.normal(0, 6, plane.shape), 0, 255).astype(np.uint8) for plane in still.planes
        )
        faces = [face_at((90.0 + 0.3 * index, 120.0), 110.0, 3.0 * index)]
        if index not in (4, 5):
            faces.append(face_at((230.0, 100.0), 70.0, track_id=2))
        tracked.append(FrameFaces(replace(still, index=index, pts=index, planes=tuple(noisy)), tuple(faces)))
    placed = place_faces(tracked, fake_spec(crop_px=64, template="tight"), min_face_px=5, max_faces=None)
    return list(look_before(placed, max_weight=2.0))


@exact_opencv
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("batch_size", "fits"), [(1, 9), (3, 9), (8, 9), (8, 2)])
def test_faces_are_steadied_as_by_the_stages(batch_size: int, fits: int, device: str) -> None:
    """However many are restored at once, and when memory runs out."""
    placed = steadied(10)
    restorer, waits = restorer_of(Mirrored(fits), device), {"batch_size": batch_size, "max_wait_frames": 16}
    restored = restore_faces(steady_crops(align_faces(placed)), restorer, Report("", ""), **waits)
    expected = list(paste_faces(steady_results(restored), strength=1.0))
    anew = restorer_of(Mirrored(fits), device)
    found = list(restored_on_device(placed, anew, Report("", ""), strength=1.0, steady=True, **waits))
    for one, other in zip(expected, found, strict=True):
        assert_alike(one, other)
    plain = [replace(frame, faces=tuple(replace(face, before=None) for face in frame.faces)) for frame in placed]
    unsteadied = list(restored_on_device(plain, restorer, Report("", ""), strength=1.0, steady=True, **waits))
    assert np.abs(unsteadied[3].frame.planes[0].astype(int) - found[3].frame.planes[0]).max() > 8


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("of", LAYOUTS, ids=lambda of: of.name)
def test_a_restorer_that_changes_nothing_changes_no_sample(of: PixelLayout, device: str) -> None:
    for done in on_device(clip(of, [3, 0, 2, 4]), restorer_of(nn.Identity(), device)):
        for before, after in zip(done.source.planes, done.frame.planes, strict=True):
            assert np.array_equal(before, after)


@pytest.mark.parametrize("device", DEVICES)
def test_the_size_of_the_batch_changes_nothing(device: str) -> None:
    tracked = clip(layout(), [1, 3, 0, 2, 4, 1, 1, 2])
    restorer = restorer_of(Mirrored(), device)
    expected = list(on_device(tracked, restorer, batch_size=1))
    for batch_size in range(2, 10):
        for one, other in zip(expected, on_device(tracked, restorer, batch_size=batch_size), strict=True):
            for first, second in zip(one.frame.planes, other.frame.planes, strict=True):
                error = np.abs(first.astype(int) - second)
                assert error.max() <= 1
                assert (error > 0).mean() <= 1e-4


def test_no_more_frames_are_held_back_than_stated() -> None:
    taken = 0

    def frames() -> Iterator[FrameFaces[TrackedFace]]:
        nonlocal taken
        for found in portraits(20):
            taken += 1
            yield found

    results = on_device(frames(), restorer_of(Mirrored()), batch_size=3)
    next(results)
    assert taken == 3 * MAX_BATCHES_UNDERWAY


def test_frames_without_faces_are_handed_on_untouched_at_once() -> None:
    tracked = clip(layout(), [0] * 6)
    report = Report("", "")
    for found, done in zip(tracked, on_device(tracked, restorer_of(Mirrored()), report), strict=True):
        assert done.frame is found.frame


def test_without_strength_the_frames_are_the_source_s() -> None:
    tracked = clip(layout(), [2, 1])
    done = list(on_device(tracked, restorer_of(Mirrored()), strength=0.0))
    assert all(one.frame is one.source for one in done)


@exact_opencv
def test_out_of_memory_halves_the_batch_goes_on_and_is_reported() -> None:
    net, report = Mirrored(fits=3), Report("", "")
    tracked = portraits(8, 2)
    expected = by_stages(tracked, restorer_of(Mirrored()))
    for one, other in zip(expected, on_device(tracked, restorer_of(net), report, batch_size=8), strict=True):
        assert_alike(one, other)
    assert report.warnings == [f"out of memory: going on with a batch size of {size}" for size in (4, 2)]
    assert net.batches == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2]


def test_a_single_face_that_does_not_fit_is_an_error_not_an_unrestored_face() -> None:
    with pytest.raises(OutOfDeviceMemory, match="1 faces at once do not fit"):
        list(on_device(portraits(2), restorer_of(Mirrored(fits=0))))


def crowd() -> list[FrameFaces[TrackedFace]]:
    """Frames with four faces each, every one over the next."""
    faces = [face_at((70.0 + 45 * number, 120.0), 70.0, track_id=number + 1) for number in range(4)]
    return [FrameFaces(picture(layout(), seed=index), tuple(faces)) for index in range(3)]


@exact_opencv
@pytest.mark.parametrize("step", ["lane.cut_crops", "paste.masked_changes"])
def test_where_faces_touch_a_few_are_cut_out_and_pasted_at_a_time(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve faces in three places; only one fits at a time, into cutting or into pasting."""
    tracked, report = crowd(), Report("", "")
    expected = by_stages(tracked, restorer_of(Mirrored()))
    module = importlib.import_module(f"vidrestore.device.{step.partition('.')[0]}")
    name, numbers = step.partition(".")[2], []
    real = getattr(module, name)

    def short_of_memory(patches: Patches, members: list[object], *others: object) -> Tensor:
        numbers.append(len(members))
        if len(members) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        result: Tensor = real(patches, members, *others)
        return result

    monkeypatch.setattr(module, name, short_of_memory)
    for one, other in zip(expected, on_device(tracked, restorer_of(Mirrored()), report, batch_size=4), strict=True):
        assert_alike(one, other)
    assert report.warnings == [f"out of memory: going on with a batch size of {size}" for size in (2, 1)]
    assert numbers == [4, 2, *[1] * 12]


def test_no_more_faces_than_the_batch_size_are_worked_on_at_once() -> None:
    net = Mirrored()
    list(on_device(crowd(), restorer_of(net), batch_size=2))
    assert net.batches == [2] * 6


@pytest.mark.parametrize("device", DEVICES)
def test_output_that_is_not_finite_stops_the_run(device: str) -> None:
    class Infinite(nn.Module):
        def forward(self, units: Tensor) -> Tensor:
            return units / torch.zeros((), device=units.device)

    with pytest.raises(RestoreError, match="float32 is not finite; choose another with --model"):
        list(on_device(portraits(2), restorer_of(Infinite(), device)))


@pytest.mark.parametrize("device", DEVICES)
def test_the_report_names_the_stages_as_ever(device: str) -> None:
    report = Report("", "")
    list(report.timed("batch", on_device(clip(layout(), [2] * 4), restorer_of(Mirrored(), device), report)))
    assert {"align", "restore", "paste", "batch", "wait for device"} == set(report.seconds_per_stage)
    assert all(seconds >= 0 for seconds in report.seconds_per_stage.values())


class LateQueues(Queues):
    """On the CPU, but results arrive as late as on a GPU: when a mark made after them is waited for."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self.underway: list[tuple[Tensor, Tensor]] = []

    def download(self, there: Tensor) -> Tensor:
        host = torch.ones_like(there)
        self.underway.append((host, there.clone()))
        return host

    def mark(self) -> Mark:
        return LateMark(self, len(self.underway))


class LateMark(Mark):
    def __init__(self, queues: LateQueues, num_before: int) -> None:
        self.queues = queues
        self.before = queues.underway[:num_before]

    def wait(self) -> None:
        with torch.inference_mode():
            for host, there in self.before:
                host.copy_(there)
        done = {id(host) for host, _ in self.before}
        self.queues.underway = [copy for copy in self.queues.underway if id(copy[0]) not in done]


@pytest.fixture
def late_queues(monkeypatch: pytest.MonkeyPatch) -> LateQueues:
    queues = LateQueues(torch.device("cpu"))
    monkeypatch.setattr("vidrestore.device.lane.shared_queues", lambda device: queues)
    return queues


def test_results_are_not_looked_at_before_they_have_arrived(request: pytest.FixtureRequest) -> None:
    tracked = clip(layout(), [2, 0, 3, 1, 4, 1, 0, 2])
    expected = list(on_device(tracked, restorer_of(Mirrored())))
    request.getfixturevalue("late_queues")
    for one, other in zip(expected, on_device(tracked, restorer_of(Mirrored())), strict=True):
        assert all(np.array_equal(*planes) for planes in zip(one.frame.planes, other.frame.planes, strict=True))


def test_a_cancelled_run_leaves_nothing_underway(late_queues: LateQueues) -> None:
    """Or the next one, with the same models, would write into what this one still reads."""
    results = on_device(portraits(20), restorer_of(Mirrored()))
    next(results)
    assert isinstance(results, Generator)
    assert late_queues.underway
    results.close()
    assert not late_queues.underway


@pytest.mark.parametrize("num_batches", [1, 2, 3])
def test_a_failed_run_leaves_nothing_underway(num_batches: int, late_queues: LateQueues) -> None:
    class Failing(Mirrored):
        def forward(self, units: Tensor) -> Tensor:
            if len(self.batches) == num_batches:
                assert late_queues.underway
                raise ValueError("broken")
            return super().forward(units)

    with pytest.raises(ValueError, match="broken"):
        list(on_device(portraits(20), restorer_of(Failing())))
    assert not late_queues.underway


@pytest.mark.parametrize("device", DEVICES)
def test_all_runs_on_a_device_share_their_queues(device: str) -> None:
    """So that a hundred pictures in a row want no more memory than two."""
    lanes = [
        Lane(restorer_of(Mirrored(), device), Report("", ""), batch_size=8, strength=1.0, steady=False)
        for _ in range(2)
    ]
    assert lanes[0].queues is lanes[1].queues


@pytest.mark.needs_cuda
def test_a_hundred_runs_want_no_more_memory_than_two() -> None:
    tracked, restorer, reserved = portraits(1), restorer_of(Mirrored(), "cuda"), []
    for _ in range(100):
        list(on_device(tracked, restorer))
        reserved.append(torch.cuda.memory_reserved())
    assert reserved[-1] == reserved[1]


@pytest.mark.needs_cuda
def test_nothing_waits_for_the_gpu_before_a_batch_is_handed_on() -> None:
    placed = list(place_faces(clip(layout(), [2, 3, 1]), fake_spec(template="tight"), min_face_px=5, max_faces=None))
    lane = Lane(restorer_of(Mirrored(), "cuda"), Report("", ""), batch_size=8, strength=1.0, steady=False)
    list(lane.finish(lane.begin(deque(placed))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # says that it does not see every wait
        torch.cuda.set_sync_debug_mode("error")
    try:
        batch = lane.begin(deque(placed))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(list(lane.finish(batch))) == 3


def test_only_pytorch_on_cuda_takes_this_lane() -> None:
    assert not works_on_device(IdentityRestorer())
    assert not works_on_device(restorer_of(nn.Identity()))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["h264", "hevc_10_bit", "yuv444", "rgb", "gray", "odd_size", "tiny"])
def test_a_whole_video_comes_back_sample_by_sample(
    name: str, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vidrestore.pipeline.works_on_device", lambda restorer: True)
    clip = CLIPS[name]
    source, target = clip.make(tmp_path), tmp_path / f"out{clip.suffix}"
    scale = min(max(max(clip.width_px, clip.height_px), 480), max(clip.width_px, clip.height_px) * 4)
    scale /= max(clip.width_px, clip.height_px)  # of the copy that the detector is shown
    size_px = 0.4 * min(clip.width_px, clip.height_px)
    face = detected_at(clip.width_px * scale / 2, clip.height_px * scale / 2, size_px * scale)
    models = Models(FixedDetector((face,)), restorer_of(nn.Identity(), device))
    report = restore_video(source, target, Options(lossless=True, min_face_px=1, temporal="off"), models=models)
    with VideoReader(source) as before, VideoReader(target) as after:
        for one, other in zip(before.frames(), after.frames(), strict=True):
            assert all(np.array_equal(*planes) for planes in zip(one.planes, other.planes, strict=True))
    assert report.num_faces_restored == report.num_frames > 0
