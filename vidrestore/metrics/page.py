"""The page: one HTML file that needs nothing else, with the same numbers as JSON beside it."""

import base64
import html
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vidrestore import __version__
from vidrestore.metrics.figures import FIGURES, Figure, over_time, values_of
from vidrestore.metrics.in_step import REFERENCE, RESTORED, SOURCE
from vidrestore.metrics.kept_pictures import SIDE_PX
from vidrestore.metrics.measure import Measured, MeasuredTrack
from vidrestore.metrics.plots import COLOURS, MAX_ROWS, TITLES, frames_per_point, line_plot, timeline
from vidrestore.metrics.warping import Picture
from vidrestore.target import replaced_when_complete, writing
from vidrestore.targets import report_files

FORMAT_VERSION = 1
"""Of the JSON."""
MAX_PICTURED_TRACKS = 6
"""With pictures in the page, about 1 MB each: those that last longest."""
NUM_STILLS = 6
SLICE_MARGIN = 0.2
"""Of an x-t slice, left out at either side: there is background."""
SLICE_SCALE = 5
"""Most screen px for one frame of an x-t slice."""
STYLE = """
:root { color-scheme: light dark; --line: #8884; --faint: #666; }
@media (prefers-color-scheme: dark) { :root { --faint: #a5a5a5; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .3rem; }
p, figcaption, td.why { max-width: 46rem; } .faint, figcaption, td.why { color: var(--faint); font-size: .87rem; }
table { border-collapse: collapse; width: 100%; } td, th { padding: .35rem .6rem; border-bottom: 1px solid var(--line);
text-align: left; vertical-align: top; } td.number, th.number { text-align: right; white-space: nowrap;
font-variant-numeric: tabular-nums; }
figure { margin: .6rem 0 1.4rem; } svg { width: 100%; height: auto; }
.strip { display: grid; grid-template-columns: 4.5rem 1fr; gap: 2px .5rem; align-items: center; overflow-x: auto; }
.strip img { display: block; } .slice { height: 7.5rem; image-rendering: pixelated; max-width: 100%; }
.stills { display: flex; gap: 2px; } .stills img { width: calc(100% / 6 - 2px); max-width: 12rem; }
code { font-size: .9em; overflow-wrap: anywhere; }
"""


def write_page(measured: Measured, page: Path) -> None:
    """Write `page` (.html) and its JSON; each appears when it is complete. Raises TargetError when it cannot."""
    page_path, json_path = report_files(page)
    for path, text in ((json_path, json.dumps(as_dict(measured), allow_nan=False)), (page_path, as_html(measured))):
        with replaced_when_complete(path) as temporary, writing(path):
            # The names of files need not be Unicode.
            temporary.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


def as_dict(measured: Measured) -> dict[str, Any]:
    """For JSON: nan is None; series are rounded to 5 digits."""
    return {
        "version": FORMAT_VERSION,
        "vidrestore": __version__,
        "videos": {name: str(path) for name, path in measured.paths.items()},
        "num_frames": len(measured.times_s),
        "times_s": _plain(measured.times_s),
        "cuts": list(measured.cuts),
        "figures": {
            figure.key: {
                "title": figure.title,
                "unit": figure.unit,
                "meaning": figure.meaning,
                "defined_in": figure.defined_in,
                "values": _plain_values(figure, measured.tracks),
                "left_out": measured.left_out.get(figure.key),
            }
            for figure in FIGURES
        },
        "faces": {
            str(track_id): {"frames": presence.frames, "strengths": presence.strengths}
            for track_id, presence in measured.presence.items()
        },
        "tracks": [
            {
                "track_id": track.track_id,
                "first_frame": track.first_frame,
                "num_frames": len(track.placed_px),
                "values": {figure.key: _plain_values(figure, [track]) for figure in FIGURES},
                "series": {figure.key: _series(figure, track) for figure in FIGURES if figure.is_plotted},
            }
            for track in measured.tracks
        ],
    }


def as_html(measured: Measured) -> str:
    """The whole page."""
    title = f"What became of the faces in {measured.paths[SOURCE].name}"
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{html.escape(title)}</h1>",
        *_introduction(measured),
    ]
    if measured.tracks:
        parts += [*_table(measured), *_timeline(measured), *_pictures(measured), *_plots(measured)]
    elif measured.presence:
        parts += ["<p>No face was restored, so nothing is compared.</p>", *_timeline(measured)]
    else:
        parts.append("<p>No face was found, so nothing is compared.</p>")
    return "\n".join([*parts, f'<p class="faint">vidrestore {__version__}</p>', "</body></html>"])


def _introduction(measured: Measured) -> Iterator[str]:
    num_frames, duration_s = len(measured.times_s), float(measured.times_s[-1]) if len(measured.times_s) else 0.0
    for name, path in measured.paths.items():
        role = {SOURCE: "the source", RESTORED: "the restoration", REFERENCE: "the clean reference"}[name]
        square = f'<span aria-hidden="true" style="color:{COLOURS[name]}">■</span>'
        swatch = f"{square} <b>{TITLES[name].capitalize()}</b>"
        yield f"<div>{swatch} is {role}, <code>{html.escape(str(path))}</code></div>"
    faces = f"{len(measured.presence)} face{'s' * (len(measured.presence) != 1)}"
    restored = f"{len(measured.tracks)} restored" if measured.knows_restored else "found in the source"
    yield (
        f"<p>{num_frames} frames, {duration_s:.1f} s, {len(measured.cuts)} cuts; {faces}, {restored}. One face is one "
        "person followed through one shot; after a cut it counts anew.</p>"
    )
    if not measured.knows_restored:
        yield (
            '<p class="faint">Without the faces file of the run (--faces) it is not known which faces were restored, '
            "and how strongly: all that are found in the source are measured.</p>"
        )


def _table(measured: Measured) -> Iterator[str]:
    names = list(measured.paths)
    yield "<h2>Figures over all restored faces</h2>"
    yield "<p>Each is of those frames in which it is known of every video; every face counts alike, small or large.</p>"
    heads = "".join(f'<th class="number">{TITLES[name]}</th>' for name in names)
    yield f"<table><thead><tr><th>figure</th>{heads}<th>what it means, and where it is from</th></tr></thead><tbody>"
    for figure in FIGURES:
        values = values_of(figure, measured.tracks)
        reason = measured.left_out.get(figure.key, "")
        if not values and not reason:
            continue
        cells = "".join(f'<td class="number">{_number(figure, values.get(name))}</td>' for name in names)
        if not values:
            cells = f'<td colspan="{len(names)}" class="why">left out: {html.escape(reason)}</td>'
        why = f"{html.escape(figure.meaning)} <i>{html.escape(figure.defined_in)}</i>"
        what = f'{html.escape(figure.title)}<div class="faint">{figure.unit}</div>'
        yield f'<tr><td>{what}</td>{cells}<td class="why">{why}</td></tr>'
    yield "</tbody></table>"


def _timeline(measured: Measured) -> Iterator[str]:
    yield "<h2>When each face is there</h2><figure>"
    yield _labelled(timeline(measured.times_s, measured.presence, _cuts_s(measured)), "When each face is there")
    longest = f" Of {len(measured.presence)} faces, the {MAX_ROWS} that are there longest."
    yield (
        "<figcaption>One row for each face: the more colour, the more of its restoration shows, which fades in and out "
        "in the middle of a shot. Outlined: found, and nothing of a restoration shows. Dotted lines are cuts."
        f"{longest if len(measured.presence) > MAX_ROWS else ''}</figcaption></figure>"
    )


def _pictures(measured: Measured) -> Iterator[str]:
    pictured = [track for track in measured.tracks if track.pictures]
    longest = sorted(pictured, key=lambda track: -len(track.placed_px))[:MAX_PICTURED_TRACKS]
    if not longest:
        return
    yield "<h2>The line through the eyes, over time</h2>"
    yield (
        "<p>One row of pixels, through both eyes, is taken from every frame and stood upright beside that of the frame "
        "before (an x-t slice): time runs to the right. A face that holds still draws level bands; flicker shows as "
        "vertical stripes, a trembling crop as waves, blinks as short gaps in the bands of the eyes. It is grey where "
        "the face is away.</p>"
    )
    for track in sorted(longest, key=lambda track: track.track_id):
        assert track.pictures is not None, "only those with pictures are here"
        yield f'<figure><div class="strip">{"".join(_slices(track))}</div><figcaption>{_span(measured, track)}'
        yield "</figcaption></figure>"
        yield f'<figure><div class="strip">{"".join(_stills(measured, track))}</div><figcaption>The same face at '
        moments = (measured.times_s[track.pictures.still_frames[number]] for number in _chosen_stills(track))
        yield ", ".join(f"{moment_s:.2f}" for moment_s in moments) + " s.</figcaption></figure>"


def _slices(track: MeasuredTrack) -> Iterator[str]:
    assert track.pictures is not None, "only those with pictures are here"
    margin_px = round(SLICE_MARGIN * SIDE_PX)
    for name, slice_ in track.pictures.eye_lines.items():
        width_px = SLICE_SCALE * slice_.shape[1]
        url = _png_url(slice_[margin_px:-margin_px])
        style, alt = f"width:{width_px}px", f"Face {track.track_id}, x-t slice, {TITLES[name]}"
        yield f'<span>{TITLES[name]}</span><img class="slice" style="{style}" alt="{alt}" src="{url}">'


def _stills(measured: Measured, track: MeasuredTrack) -> Iterator[str]:
    assert track.pictures is not None, "only those with pictures are here"
    for name, stills in track.pictures.stills.items():
        images = ""
        for number in _chosen_stills(track):
            moment_s = measured.times_s[track.pictures.still_frames[number]]
            alt = f"Face {track.track_id} at {moment_s:.2f} s, {TITLES[name]}"
            images += f'<img alt="{alt}" src="{_png_url(stills[number])}">'
        yield f'<span>{TITLES[name]}</span><div class="stills">{images}</div>'


def _chosen_stills(track: MeasuredTrack) -> list[int]:
    """Numbers among the kept ones, evenly spread."""
    assert track.pictures is not None, "only those with pictures are here"
    count = len(track.pictures.still_frames)
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, NUM_STILLS)).tolist()})


def _span(measured: Measured, track: MeasuredTrack) -> str:
    """When a face is there, and its own figures."""
    first_s = measured.times_s[track.first_frame]
    last_s = measured.times_s[track.first_frame + len(track.placed_px) - 1]
    changes = []
    for figure in FIGURES:
        values = values_of(figure, [track])
        if figure.is_plotted and SOURCE in values and RESTORED in values:
            before, after = (_number(figure, values[name]) for name in (SOURCE, RESTORED))
            changes.append(f"{figure.title} {before} → {after} {figure.unit}")
    assert track.pictures is not None, "only those with pictures are here"
    num_lines = track.pictures.eye_lines[SOURCE].shape[1]
    shown = f" (here to {track.times_s[num_lines - 1]:.2f} s)" if num_lines < len(track.times_s) else ""
    figures = f": {'; '.join(changes)}" if changes else ""
    return f"Face {track.track_id}, from {first_s:.2f} to {last_s:.2f} s{shown}{figures}."


def _plots(measured: Measured) -> Iterator[str]:
    num_frames = frames_per_point(len(measured.times_s))
    averaged = f", and over {num_frames} frames for each point, which hides single ones" if num_frames > 1 else ""
    yield f"<h2>Over time</h2><p>The mean over the faces of each frame{averaged}; dotted lines are cuts.</p>"
    for figure in FIGURES:
        series = over_time(figure, measured) if figure.is_plotted else {}
        if series:
            plot = line_plot(measured.times_s, series, figure.unit, _cuts_s(measured))
            caption = f"<b>{html.escape(figure.title)}.</b> {html.escape(figure.meaning)}"
            label = f"{figure.title} over time: {', '.join(TITLES[name] for name in series)}"
            yield f"<figure>{_labelled(plot, label)}<figcaption>{caption}</figcaption></figure>"


def _labelled(svg: str, label: str) -> str:
    """For those who have a page read to them."""
    return f'<div role="img" aria-label="{html.escape(label)}">{svg}</div>'


def _cuts_s(measured: Measured) -> list[float]:
    return [float(measured.times_s[cut]) for cut in measured.cuts]


def _number(figure: Figure, value: float | None) -> str:
    return "–" if value is None else f"{round(value, figure.decimals) + 0.0:.{figure.decimals}f}"  # no -0.00


def _plain_values(figure: Figure, tracks: Iterable[MeasuredTrack]) -> dict[str, float]:
    return {name: _rounded(value) for name, value in values_of(figure, tracks).items()}


def _series(figure: Figure, track: MeasuredTrack) -> Mapping[str, list[float | None]]:
    entries = {name: figure.of_track(track, name) for name in track.videos}
    return {
        name: _plain(series) for name, series in entries.items() if series is not None and np.isfinite(series).any()
    }


def _plain(values: np.ndarray[Any, np.dtype[np.float64]]) -> list[float | None]:
    return [_rounded(value) if math.isfinite(value) else None for value in values.tolist()]


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")


def _png_url(picture: Picture) -> str:
    """The picture itself, as an address. `picture` is (H, W, 3) uint8 RGB."""
    done, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    assert done, "a PNG in memory always succeeds"
    return "data:image/png;base64," + base64.b64encode(data.tobytes()).decode("ascii")
