"""A frame's journey, top to bottom. Start reading here.

    read -> detect -> track -> align -> restore -> paste -> write

Frames stay in the source's own planes all the way; stages are plain generators that know nothing of threads. A lane is
a thread with its part of the journey. There are three: two of `Background`, which decode and compute, and the caller's,
which encodes and receives Ctrl-C. With a GPU, align, restore and paste run there (`device/lane.py`), except with
`--reuse`, another engine than PyTorch or HDR's PQ: then the restorer alone does. Interlaced frames travel as two, one
for each moment (`fields.py`).
"""

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from vidrestore.background import Background
from vidrestore.device.lane import restored_on_device, works_on_device
from vidrestore.fields import FieldPairs
from vidrestore.frame import Frame, RestoredFrame
from vidrestore.loading import Models, load_models
from vidrestore.options import Options
from vidrestore.outputs import Outputs, check_outputs
from vidrestore.report import Report
from vidrestore.stages.align import align_faces, place_faces
from vidrestore.stages.before import MAX_WEIGHT, look_before
from vidrestore.stages.cuts import CutsAhead
from vidrestore.stages.look import look_for_faces
from vidrestore.stages.paste import paste_faces
from vidrestore.stages.restore import restore_faces
from vidrestore.stages.steady import steady_crops, steady_results
from vidrestore.stages.strength import give_strength
from vidrestore.stages.track import FaceTracker, track_faces
from vidrestore.video.read import VideoReader
from vidrestore.video.sample import sample_frames

QUEUE_FRAMES = 4
"""Depth of each lane's queue: enough to ride out a slow frame; four 4K frames of 8-bit 4:2:0 take 50 MB."""
MAX_WAIT_FRAMES = 16
"""Frames held back, at most, until a batch of faces is full. On a GPU two batches are: so with 32 frames that wait for
the detector (`look.py`), 31 for the tracker (`track.py`) and 32 for the restorer, and those in the queues, about 110
pictures are in memory at 60 frames per second, 1.4 GB of 8-bit 4:2:0 at 4K; on a CPU (4, 31 and 16) 70, or 0.9 GB."""
OnFrame = Callable[[RestoredFrame, Report], None]
"""Called after each frame is written. Raising here cancels the run and leaves nothing behind."""


def restore_video(
    source: Path | str,
    target: Path | str,
    options: Options | None = None,
    *,
    models: Models | None = None,
    on_frame: OnFrame | None = None,
) -> Report:
    """Write `target`: the video `source` with its faces restored, and everything else as it was.

    `models` that are in memory already take the place of those that the options name. The target appears when it is
    complete; after any error nothing is left. Raises InputError for what the user can mend (source, target, options,
    weights) and other errors of `errors.py` for what they cannot.
    """
    source, target, options = Path(source), Path(target), options or Options()
    if options.report:
        from vidrestore.metrics.run import restore_and_report  # late: a room of its own, which calls this one

        return restore_and_report(source, target, options, models=models, on_frame=on_frame)
    report = Report(source=str(source), target=str(target))
    begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
    check_outputs(target, options, source=source)
    with (
        VideoReader(
            source, start_s=options.start, end_s=options.end, decoder=options.decoder, stream=options.stream
        ) as reader,
        Outputs(target, options, source=source, like=reader.info) as outputs,
    ):
        info = reader.info
        report.num_frames_expected = reader.num_frames_expected
        if models is None:
            with report.stage("load models"):
                samples = partial(sample_frames, source, stream=options.stream)
                models = load_models(options, samples, rotation_deg=info.rotation_deg)
        models.enter_into(report)
        decoded = report.timed("decode", reader.frames())
        with Background(decoded, depth=QUEUE_FRAMES, name="decode") as frames:
            fields = FieldPairs()
            moments = fields.split(frames)
            restored = restored_frames(
                moments, models, options, report, rotation_deg=info.rotation_deg, is_pq=info.layout.is_pq
            )
            with Background(fields.woven(restored), depth=QUEUE_FRAMES, name="compute") as done_frames:
                for done in done_frames:
                    with report.stage("encode"):
                        outputs.write(done)
                    report.count(done)
                    if on_frame:
                        on_frame(done, report)
        with report.stage("encode"):
            outputs.finish()
    report.num_damaged_packets = reader.num_damaged_packets
    for warning in (*reader.warnings, *outputs.warnings):
        report.warn(warning)
    if fields.num_interlaced:
        report.warn(f"{source}: {fields.num_interlaced} frames are interlaced; faces were restored field by field")
    report.finish(time.perf_counter() - begin_s, time.process_time() - begin_cpu_s)
    return report


def restored_frames(
    frames: Iterable[Frame],
    models: Models,
    options: Options,
    report: Report,
    *,
    rotation_deg: int,
    is_pq: bool = False,
) -> Iterator[RestoredFrame]:
    """The stages, one after the other. `rotation_deg` (clockwise) shows the frames upright to the detector."""
    timed = report.timed
    frames = timed("wait for decoder", frames)
    cuts = CutsAhead()
    found = timed(
        "detect",
        look_for_faces(frames, models.detector, cuts, every=options.detect_every, rotation_deg=rotation_deg),
    )
    tracked = timed("track", track_faces(found, FaceTracker(lag_s=options.lag, is_cut=cuts.was_cut)))
    placed = timed(
        "align",
        place_faces(tracked, models.restorer.spec, min_face_px=options.min_face_px, max_faces=options.max_faces),
    )
    placed = timed("align", give_strength(placed))
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
