"""A frame's journey, top to bottom. Start reading here.

    read -> detect -> track -> align -> restore -> paste -> write

Frames stay in the source's own planes all the way; stages are plain generators that know nothing of threads. A lane is
a thread with its part of the journey. There are three: two of `Background`, which decode and compute, and the caller's,
which encodes and receives Ctrl-C. With a GPU, align, restore and paste run there (`device/lane.py`), except with
`--reuse`, another engine than PyTorch or HDR's PQ: then the restorer alone does. Interlaced frames travel as two, one
for each moment (`fields.py`).
"""

import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from vidrestore.background import Background
from vidrestore.device.lane import restored_on_device, works_on_device
from vidrestore.face import PlacedFace
from vidrestore.faces_file.read import ListedFaces, read_faces_file
from vidrestore.faces_file.write import FacesFile
from vidrestore.fields import FieldPairs
from vidrestore.frame import Frame, FrameFaces, RestoredFrame, VideoInfo
from vidrestore.loading import Models, load_models
from vidrestore.models.remembered import RememberedDetector
from vidrestore.options import Options
from vidrestore.outputs import Outputs, faces_file_facts
from vidrestore.report import Report
from vidrestore.stages.align import align_faces, place_faces
from vidrestore.stages.before import MAX_WEIGHT, look_before
from vidrestore.stages.cuts import CutsAhead
from vidrestore.stages.in_segments import WARM_UP, restored_in_segments
from vidrestore.stages.listed import as_listed, check_listed, place_listed
from vidrestore.stages.look import look_for_faces
from vidrestore.stages.paste import paste_faces
from vidrestore.stages.restore import restore_faces
from vidrestore.stages.steady import steady_crops, steady_results
from vidrestore.stages.strength import give_strength
from vidrestore.stages.track import FaceTracker, track_faces
from vidrestore.targets import check_analysis, check_outputs
from vidrestore.video.read import open_reader
from vidrestore.video.sample import sample_frames
from vidrestore.video.sequence_target import resolved_target
from vidrestore.work import WorkFolder, job_of, segment_number

QUEUE_FRAMES = 4
"""Depth of each lane's queue: enough to ride out a slow frame; four 4K frames of 8-bit 4:2:0 take 50 MB."""
MAX_WAIT_FRAMES = 16
"""Frames held back, at most, until a batch of faces is full. On a GPU two batches are: so with 32 frames that wait for
the detector (`look.py`), 31 for the tracker (`track.py`) and 32 for the restorer, 8 for the warm-up of a segment
(`in_segments.py`; 24 with --temporal strong), and those in the queues, about 120 pictures are in memory at 60 frames
per second, 1.5 GB of 8-bit 4:2:0 at 4K; on a CPU (4, 31, 16 and 8) 80, or 1 GB."""
OnFrame = Callable[[RestoredFrame, Report], None]
"""Called after each frame is written; not for those that an earlier run has written. Raising here cancels the run."""


def restore_video(
    source: Path | str,
    target: Path | str,
    options: Options | None = None,
    *,
    models: Models | None = None,
    on_frame: OnFrame | None = None,
) -> Report:
    """Write `target`: the video `source` with its faces restored, and everything else as it was.

    Both may be sequences of images: a folder (for the target, one that exists or a text that ends in a slash), or a
    pattern such as scans/frame_%06d.dpx.

    `models` that are in memory already take the place of those that the options name. The target appears when it is
    complete; after any error it is not there, but the work folder beside it is, if a segment is finished (`work.py`):
    the same call goes on from there. Raises InputError for what the user can mend (source, target, options,
    weights) and other errors of `errors.py` for what they cannot.
    """
    source, options = Path(source), options or Options()
    target = resolved_target(source, target)
    if options.report:
        from vidrestore.metrics.run import restore_and_report  # late: a room of its own, which calls this one

        return restore_and_report(source, target, options, models=models, on_frame=on_frame)
    report = Report(source=str(source), target=str(target))
    begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
    check_outputs(target, options, source=source)
    with (
        open_reader(
            source,
            start_s=options.start,
            end_s=options.end,
            decoder=options.decoder,
            stream=options.stream,
            rate_hz=options.rate,
        ) as reader,
        Outputs(target, options, source=source, like=reader.info) as outputs,
    ):
        info = reader.info
        report.num_frames_expected = reader.num_frames_expected
        listed = listed_for(source, info, options)
        if models is None:
            with report.stage("load models"):
                samples = partial(sample_frames, source, stream=options.stream)
                models = load_models(options, samples, rotation_deg=info.rotation_deg)
        models.enter_into(report)
        with report.stage("check tracks"):
            outputs.rehearse(reader.first_s)
        finished = outputs.go_on(job_of(source, options, report))
        for counts in finished.values():
            report.add(counts)
        report.num_frames_resumed = report.num_frames
        for warning in filter(None, [outputs.check_space(report.num_frames_expected)]):
            report.warn(warning)
        decoded = report.timed("decode", reader.frames())
        with (
            RememberedDetector(models.detector, outputs.looks) as detector,
            Background(decoded, depth=QUEUE_FRAMES, name="decode") as frames,
        ):
            models = replace(models, detector=detector)
            fields = FieldPairs()
            moments = fields.split(frames)
            restored = restored_frames(
                moments,
                models,
                options,
                report,
                rotation_deg=info.rotation_deg,
                is_pq=info.layout.is_pq,
                listed=listed,
                finished=finished.keys(),
            )
            with Background(fields.woven(restored), depth=QUEUE_FRAMES, name="compute") as done_frames:
                for done in done_frames:
                    with report.stage("encode"):
                        is_new = outputs.write(done)
                    if is_new:
                        report.count(done)
                        if on_frame:
                            on_frame(done, report)
        with report.stage("join"):
            outputs.finish()
    for name, value in outputs.verified.items():
        setattr(report, name, value)
    report.num_damaged_packets = reader.num_damaged_packets
    for warning in (*reader.warnings, *outputs.warnings):
        report.warn(warning)
    if fields.num_interlaced:
        report.warn(f"{source}: {fields.num_interlaced} frames are interlaced; faces were restored field by field")
    report.finish(time.perf_counter() - begin_s, time.process_time() - begin_cpu_s)
    return report


def analyze_video(
    source: Path | str,
    faces: Path | str,
    options: Options | None = None,
    *,
    models: Models | None = None,
    on_frame: OnFrame | None = None,
) -> Report:
    """Write `faces`: where the faces of a video are, and how much each is to be restored, for `options.from_faces`.

    It is the file that `restore_video` writes with `options.faces`. What the detector has seen is kept in a work folder
    beside it until it is complete, as in `restore_video`. Raises as that does.
    """
    source, faces, options = Path(source), Path(faces), options or Options()
    report = Report(source=str(source), target=str(faces))
    begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
    check_analysis(faces, options, source=source)
    with (
        open_reader(
            source,
            start_s=options.start,
            end_s=options.end,
            decoder=options.decoder,
            stream=options.stream,
            rate_hz=options.rate,
        ) as reader,
        WorkFolder(faces, keeps_looks=True) as work,
    ):
        info = reader.info
        report.num_frames_expected = reader.num_frames_expected
        if models is None:
            with report.stage("load models"):
                samples = partial(sample_frames, source, stream=options.stream)
                models = load_models(options, samples, rotation_deg=info.rotation_deg)
        models.enter_into(report)
        work.go_on(job_of(source, options, report), must=options.resume, may_discard=options.overwrite)
        fields = FieldPairs()
        hiding_place, check = work.hiding_place(faces), partial(work.place, faces)
        with (
            FacesFile(faces, **faces_file_facts(info, options), folder=hiding_place, check=check) as faces_file,
            RememberedDetector(models.detector, work.looks) as detector,
            Background(report.timed("decode", reader.frames()), depth=QUEUE_FRAMES, name="decode") as frames,
        ):
            models = replace(models, detector=detector)
            placed = placed_faces(fields.split(frames), models, options, report, rotation_deg=info.rotation_deg)
            untouched = (RestoredFrame(found.frame, found.frame, found.faces, found.skipped) for found in placed)
            for done in fields.woven(untouched):
                faces_file.write(done)
                report.count(done)
                if on_frame:
                    on_frame(done, report)
    report.num_damaged_packets = reader.num_damaged_packets
    for warning in reader.warnings:
        report.warn(warning)
    report.finish(time.perf_counter() - begin_s, time.process_time() - begin_cpu_s)
    return report


def listed_for(source: Path, info: VideoInfo, options: Options) -> ListedFaces | None:
    """The faces that the options want restored instead of those that are found."""
    if options.from_faces is None:
        return None
    listed = read_faces_file(options.from_faces)
    check_listed(
        listed,
        source,
        width_px=info.width_px,
        height_px=info.height_px,
        start_s=options.start,
        end_s=options.end,
        track_ids=options.track_ids,
    )
    return listed


def restored_frames(
    frames: Iterable[Frame],
    models: Models,
    options: Options,
    report: Report,
    *,
    rotation_deg: int,
    is_pq: bool = False,
    listed: ListedFaces | None = None,
    finished: Collection[int] = (),
) -> Iterator[RestoredFrame]:
    """The stages, one after the other. `rotation_deg` (clockwise) shows the frames upright to the detector; with
    `listed` faces it is not asked. Frames of segments that are `finished` are not restored."""
    if listed is None:
        placed = placed_faces(frames, models, options, report, rotation_deg=rotation_deg)
    else:
        frames = report.timed("wait for decoder", frames)
        placed = report.timed("align", place_listed(frames, listed, models.restorer.spec, track_ids=options.track_ids))
    return restored_in_segments(
        placed,
        partial(restored_from_placed, models=models, options=options, report=report, is_pq=is_pq),
        segment_of=lambda found: segment_number(found.frame.index // 2),  # a frame has two moments
        finished=finished,
        warm_up_frames=WARM_UP[options.temporal],
    )


def placed_faces(
    frames: Iterable[Frame], models: Models, options: Options, report: Report, *, rotation_deg: int
) -> Iterator[FrameFaces[PlacedFace]]:
    """The first half of the stages: where the faces are, and how much each is to be restored."""
    timed = report.timed
    frames = timed("wait for decoder", frames)
    cuts = CutsAhead()
    found = timed(
        "detect",
        look_for_faces(frames, models.detector, cuts, every=options.detect_every, rotation_deg=rotation_deg),
    )
    tracked = timed("track", track_faces(found, FaceTracker(lag_s=options.lag, is_cut=cuts.was_cut)))
    spec = models.restorer.spec
    placed = timed("align", place_faces(tracked, spec, min_face_px=options.min_face_px, max_faces=options.max_faces))
    # As a faces file has them, so that what is restored from one is the same to the last bit.
    return (as_listed(found, spec) for found in timed("align", give_strength(placed)))


def restored_from_placed(
    placed: Iterable[FrameFaces[PlacedFace]], *, models: Models, options: Options, report: Report, is_pq: bool
) -> Generator[RestoredFrame, None, None]:
    """The second half of the stages: finished frames."""
    timed = report.timed
    is_steadied = options.temporal != "off"
    if is_steadied:
        placed = timed("steady", look_before(placed, max_weight=MAX_WEIGHT[options.temporal]))
    # Crops that are compared are made here, and so are those of HDR's PQ.
    if works_on_device(models.restorer) and not options.reuse and not is_pq:
        on_device = restored_on_device(
            placed,
            models.restorer,
            report,
            batch_size=options.batch_size,
            max_wait_frames=MAX_WAIT_FRAMES,
            strength=options.strength,
            steady=is_steadied,
        )
        return timed("batch", on_device)
    aligned = timed("align", align_faces(placed))
    if is_steadied:
        aligned = timed("steady", steady_crops(aligned))
    restored = timed(
        "batch",
        restore_faces(
            aligned,
            models.restorer,
            report,
            batch_size=options.batch_size,
            max_wait_frames=MAX_WAIT_FRAMES,
            reuse=options.reuse,
        ),
    )
    if is_steadied:
        restored = timed("steady", steady_results(restored))
    return timed("paste", paste_faces(restored, strength=options.strength))
