"""The faces file: what was found in every output frame, as JSON that other programs read and people edit.

    {"version": 1, "width_px": …, "height_px": …, "span_s": [null, null], "edits": [], "frames": [
    {"index": 0, "time_s": …, "faces": [{"track_id": 1, "score": …, "box_xyxy_px": [4], "landmarks_px": [[x, y] * 5]
      (smoothed), "detected_landmarks_px": [[x, y] * 5] or null, "crop_corners_px": [[x, y] * 4] (clockwise from the
      crop's top left), "restored": true, "strength": …}]},
    …
    ]}

`detected_landmarks_px` is null where the detector was not asked (see --detect-every) or did not find the face. Faces
that were left alone have `"restored": false`, a `"reason"`, and null for the crop corners. `strength`, 0 to 1, is how
much of the restoration shows, before --strength: faces fade in and out; older files lack it. Coordinates are those of
the stored picture (before any rotation that a player applies), `time_s` is the output's clock. `span_s` has the --start
and --end of the run, null where there was none. An interlaced frame has `"moments": 2`, and each of its faces says
which of the two it is of: `"moment": 1` or `2`; a track may then occur twice.

A video is rendered from the file as it is, or edited: faces deleted, `"restored": false`, another `"strength"`, other
landmarks (the crop corners follow from them and are not read), or all of a track at once by an entry of `edits`:

    "edits": [{"track_id": 3, "from_s": 1.0, "to_s": 2.5, "strength": 0.4}, {"track_id": 2, "strength": 0}]

`strength`, 0 to 1, multiplies what the frames say; the times may be left out, `to_s` is no longer part of it, and of
several edits that apply the last one counts. Written with one frame to a line the file is read frame by frame, however
long it is; other layouts are read all at once.
"""
