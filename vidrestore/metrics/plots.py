"""Plots as SVG text that goes into an HTML page and takes on its text colour, light or dark."""

import io
import math
import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidrestore.metrics.in_step import REFERENCE, RESTORED, SOURCE
from vidrestore.metrics.measure import IDENTITY_EVERY, Presence

COLOURS = {SOURCE: "#7d8fa8", RESTORED: "#e06c1f", REFERENCE: "#2a9d6a"}
"""Of the videos, to be seen on white and on black."""
TITLES = {SOURCE: "before", RESTORED: "after", REFERENCE: "reference"}
"""What the videos are called in the page."""
TEXT_COLOUR = "#010203"
"""Stands for the page's own text colour while matplotlib draws."""
WIDTH_IN, PLOT_HEIGHT_IN, ROW_HEIGHT_IN = 9.0, 2.1, 0.22
MARGINS_IN = (0.75, 0.1, 0.4, 0.3)
"""Left, right, below, above: the same in all plots, so that one moment is at one place in all of them."""
MAX_POINTS = 700
"""Of a line; longer series are averaged, so that a page of a whole film stays small."""
MAX_ROWS = 40
"""Of the timeline; the tracks that last longest are shown."""
STRENGTH_STEPS = 10
"""Shades of the timeline."""


def line_plot(
    times_s: NDArray[np.float64], series: Mapping[str, NDArray[np.float64]], unit: str, cuts_s: Sequence[float]
) -> str:
    """SVG of one line for each video. `series`: (T,) by the names of the videos, nan where there is nothing."""
    figure, axes = _figure(PLOT_HEIGHT_IN, times_s)
    for name, values in series.items():
        places, means = thinned(times_s, values)
        known = np.flatnonzero(np.isfinite(means))
        marker = "." if len(known) < len(means) / 2 else ""
        axes.plot(places, means, color=COLOURS[name], linewidth=1.2, marker=marker, markersize=4, label=TITLES[name])
        if marker:  # perhaps a figure of every n-th frame: its points joined, but not over times without a face
            for part in np.split(known, np.flatnonzero(np.diff(known) > IDENTITY_EVERY) + 1):
                axes.plot(places[part], means[part], color=COLOURS[name], linewidth=0.8)
    for cut_s in cuts_s:
        axes.axvline(cut_s, color=TEXT_COLOUR, linewidth=0.6, linestyle=":")
    axes.set_ylabel(unit)
    axes.set_ylim(bottom=0 if all(np.nanmin(values) >= 0 for values in series.values()) else None)
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=3,
        fontsize=8,
        frameon=False,
        labelcolor=TEXT_COLOUR,
        borderpad=0,
    )
    return _svg(figure)


def timeline(times_s: NDArray[np.float64], presence: Mapping[int, Presence], cuts_s: Sequence[float]) -> str:
    """SVG of one row for each track: where it is there, and the more colour, the more of its restoration shows."""
    longest = sorted(presence, key=lambda track_id: -len(presence[track_id].frames))[:MAX_ROWS]
    rows = sorted(longest)
    figure, axes = _figure(max(len(rows), 2) * ROW_HEIGHT_IN + 0.7, times_s)
    ends_s = np.append(times_s[1:], end_s(times_s))
    for row, track_id in enumerate(rows):
        for (_, level), run in groupby(_numbered(presence[track_id]), key=lambda entry: (entry[0], entry[1])):
            frames = [frame for _, _, frame in run]
            left_s, width_s = float(times_s[frames[0]]), float(ends_s[frames[-1]] - times_s[frames[0]])
            colour = COLOURS[RESTORED] if level else "none"
            axes.broken_barh(
                [(left_s, width_s)],
                (row - 0.35, 0.7),
                facecolor=colour,
                alpha=level / STRENGTH_STEPS or 1,
                edgecolor="none" if level else COLOURS[SOURCE],
                linewidth=0.8,
            )
    for cut_s in cuts_s:
        axes.axvline(cut_s, color=TEXT_COLOUR, linewidth=0.6, linestyle=":")
    axes.set_yticks(range(len(rows)), [f"face {track_id}" for track_id in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    return _svg(figure)


def _numbered(presence: Presence) -> list[tuple[int, int, int]]:
    """(run, shade, frame): entries of neighbouring frames have the same run."""
    return [
        (frame - place, math.ceil(strength * STRENGTH_STEPS), frame)
        for place, (frame, strength) in enumerate(zip(presence.frames, presence.strengths, strict=True))
    ]


def thinned(
    times_s: NDArray[np.float64], values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both, averaged over as many neighbours as it takes to have at most `MAX_POINTS`."""
    width = frames_per_point(len(values))

    def means(entries: NDArray[np.float64]) -> NDArray[np.float64]:
        padded = np.concatenate([entries, np.full(-len(entries) % width, np.nan)]).reshape(-1, width)
        known = np.isfinite(padded)
        sums = np.where(known, padded, 0).sum(axis=1)
        return np.where(known.any(axis=1), sums / np.maximum(known.sum(axis=1), 1), np.nan)

    return (times_s, values) if width == 1 else (means(times_s), means(values))


def frames_per_point(num_frames: int) -> int:
    """Over how many neighbours the lines of so long a video are averaged."""
    return max(-(-num_frames // MAX_POINTS), 1)


def end_s(times_s: NDArray[np.float64]) -> float:
    """When the last frame is over: it is shown as long as the one before."""
    return float(2 * times_s[-1] - times_s[max(len(times_s) - 2, 0)])


def _figure(height_in: float, times_s: NDArray[np.float64]) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # late: a second to load

    figure = Figure(figsize=(WIDTH_IN, height_in))
    left, right, below, above = MARGINS_IN
    axes = figure.add_axes(
        (left / WIDTH_IN, below / height_in, 1 - (left + right) / WIDTH_IN, 1 - (below + above) / height_in)
    )
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(TEXT_COLOUR)
    axes.tick_params(colors=TEXT_COLOUR, labelsize=8)
    axes.xaxis.label.set_color(TEXT_COLOUR)
    axes.yaxis.label.set_color(TEXT_COLOUR)
    axes.set_xlabel("s", fontsize=8)
    axes.yaxis.label.set_fontsize(8)
    axes.set_xlim(float(times_s[0]), max(end_s(times_s), 1e-3))
    return figure, axes


def _svg(figure: Any) -> str:
    """The <svg> element alone, without a background."""
    import matplotlib

    file = io.StringIO()
    # Text stays text, and the same plot gives the same file.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "vidrestore"}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    text = re.sub("<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    return text.replace(TEXT_COLOUR, "currentColor")
