"""The page needs nothing but itself, tells what its JSON tells, and explains every word."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tests.measured_clips import detector_in_crops, flickering, write_clip, write_faces
from vidrestore.errors import TargetError
from vidrestore.metrics.figures import FIGURES
from vidrestore.metrics.measure import Measured, Presence, measure
from vidrestore.metrics.page import as_dict, as_html, write_page
from vidrestore.metrics.plots import MAX_POINTS, frames_per_point, thinned, timeline


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """A flickering restoration of a made-up face, with a cut put in."""
    folder = tmp_path_factory.mktemp("clips")
    paths = {
        "source": write_clip(folder / "a<b>&c.mkv"),
        "restored": write_clip(folder / "restored.mkv", flickering),
    }
    found = measure(paths, faces=write_faces(folder / "f.json"), device="cpu", detector=detector_in_crops())
    return replace(found, cuts=(12,), left_out={"ids": "arcface is not here; run `vidrestore models pull arcface`"})


class Elements(HTMLParser):
    """Collects what a page is made of, and checks that all that is opened is closed."""

    VOID = ("meta", "img", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_asks_for_nothing_from_elsewhere(measured: Measured) -> None:
    elements = Elements(as_html(measured))
    assert elements.open == []
    assert "script" not in elements.tags
    assert elements.addresses
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in elements.addresses)
    assert elements.tags.count("svg") >= 5
    assert elements.tags.count("img") >= 2 + 2 * 4  # x-t slices and stills of both videos


def test_every_figure_that_is_shown_is_explained_with_its_source(measured: Measured) -> None:
    page = as_html(measured)
    for term in ("E_warp", "TLME", "AKD", "IDS", "Lai et al.", "Siarohin et al.", "Deng et al.", "Subbarao et al."):
        assert term in page
    assert "PSNR" not in page  # there is no reference to measure it by
    assert "left out: arcface is not here; run `vidrestore models pull arcface`" in page


def test_the_page_has_the_numbers_of_its_json(measured: Measured) -> None:
    page, content = as_html(measured), as_dict(measured)
    for figure in FIGURES:
        for value in content["figures"][figure.key]["values"].values():
            shown = (f">{round(near, figure.decimals) + 0.0:.{figure.decimals}f}<" for near in (value, value - 1e-9))
            assert any(each in page for each in shown)
    flicker = content["figures"]["warped_difference"]["values"]
    assert flicker["restored"] > 4 * flicker["source"]
    (track,) = content["tracks"]
    series = track["series"]["warped_difference"]["restored"]
    assert series[0] is None
    assert np.mean(series[1:]) == pytest.approx(flicker["restored"], rel=1e-3)
    assert re.search(r"Face 3, from 0.00 to 0.92 s: Flicker [0-9.]+ → [0-9.]+ levels; Sharpness ", page)
    assert content["cuts"] == [12]
    assert content["faces"]["3"]["strengths"] == [1.0] * 24
    json.dumps(content, allow_nan=False)


def test_every_picture_is_told_to_those_who_cannot_see_it(measured: Measured) -> None:
    page = as_html(measured)
    assert 'alt=""' not in page
    assert 'alt="Face 3, x-t slice, before"' in page
    assert 'alt="Face 3 at 0.00 s, after"' in page
    assert page.count('<div role="img" aria-label="') == page.count("<svg")


def test_a_track_longer_than_its_x_t_slice_says_where_the_slice_ends(measured: Measured) -> None:
    (track,) = measured.tracks
    assert track.pictures is not None
    lines = {name: slice_[:, :10] for name, slice_ in track.pictures.eye_lines.items()}
    shorter = replace(track, pictures=replace(track.pictures, eye_lines=lines))
    assert "from 0.00 to 0.92 s (here to 0.36 s): " in as_html(replace(measured, tracks=(shorter,)))


def test_names_of_files_cannot_break_the_page(measured: Measured) -> None:
    page = as_html(measured)
    assert "a<b>" not in page
    assert "a&lt;b&gt;&amp;c.mkv" in page


def test_plots_take_on_the_pages_own_text_colour(measured: Measured) -> None:
    page = as_html(measured)
    assert "currentColor" in page
    assert "#010203" not in page
    assert "color-scheme: light dark" in page


def test_videos_without_faces_have_a_page_too(measured: Measured) -> None:
    page = as_html(replace(measured, tracks=(), presence={}))
    assert "No face was found" in page
    assert Elements(page).open == []
    alone = {3: Presence([0, 1, 2], [0.0, 0.0, 0.0])}
    assert "No face was restored" in as_html(replace(measured, tracks=(), presence=alone))


def test_both_files_appear_and_leave_nothing_else(measured: Measured, tmp_path: Path) -> None:
    write_page(measured, tmp_path / "r.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.html", "r.json"]
    assert json.loads((tmp_path / "r.json").read_text())["version"] == 1
    with pytest.raises(TargetError, match="ends in .html"):
        write_page(measured, tmp_path / "r.json")


def test_a_whole_films_plot_stays_small() -> None:
    times_s = np.arange(200_000) / 25
    values = np.where(times_s < 100, np.nan, 5.0)
    places, means = thinned(times_s, values)
    assert len(places) == len(means) <= MAX_POINTS
    assert np.isnan(means[0])
    assert means[-1] == 5
    assert frames_per_point(len(times_s)) == 286
    # A point stands in the middle of the frames that it is of.
    assert places[0] == pytest.approx(285 / 2 / 25)
    many = {track_id: Presence([10 * track_id, 10 * track_id + 1], [1.0, 0.5]) for track_id in range(300)}
    assert len(re.findall("face [0-9]+<", timeline(times_s[:4000], many, []))) == 40
