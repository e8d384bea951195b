"""Which cuts are found, and what passes for one: python tests/bench/cuts.py [CLIP[:FIRST-END] ...]

Cut lists are spliced from takes of the clips' shots, scaled to one size; each CLIP must be a single shot, or name the
frames of one (END is the first frame after it). Without clips a camera is moved over matplotlib's and scikit-image's
sample pictures. Seeds are fixed. A hard cut counts as found at its very frame only. A dissolve or fade counts as found
by one boundary anywhere in it; a second one there is false. So does a cut beside frames that are wholly white: nobody
can tell on which side of the white it is.

A jump cut (the same take, later and closer) is a cut to an editor. To a viewer it is the same face in another place, so
its track may go on or end: it is listed apart and counts in no sum. A whip pan, however fast, is no cut.

PySceneDetect's detectors are listed beside ours where `scenedetect` can be imported; it is no dependency. "Tuned" is
the best F1 of 180 settings (window, threshold, least content, luma alone or not) on the hard cuts.
"""

import argparse
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from vidrestore.images import frame_from_rgb
from vidrestore.stages.cuts import CutDetector

WIDTH_PX, HEIGHT_PX = 320, 180
NUM_TAKES, SEEDS = 25, (3, 4)
"""Constants were chosen, ours and those of the tuned detector, with the seeds 1 and 2."""
TAKE_FRAMES = (18, 30)
"""Half-open. PySceneDetect passes over shots of under 15 frames unless told otherwise."""
MADE_SHOT_FRAMES = 120

Picture = NDArray[np.uint8]
"""(HEIGHT_PX, WIDTH_PX, 3) RGB."""
Take = list[Picture]
Finder = Callable[[Iterable[Picture]], list[int]]
"""Pictures in, first frames of shots out."""
Change = Callable[["CutList", np.random.Generator], "CutList"]


@dataclass(frozen=True, slots=True, eq=False)
class CutList:
    """Pictures, and what a person would say of them."""

    pictures: list[Picture]
    hard: list[int]
    """First frames of shots."""
    soft: list[range] = field(default_factory=list)
    """In each of them one boundary is right, wherever it is."""


@dataclass(slots=True)
class Count:
    found: int = 0
    asked: int = 0
    false: int = 0

    def add(self, other: "Count") -> None:
        self.found += other.found
        self.asked += other.asked
        self.false += other.false

    @property
    def f1(self) -> float:
        return 2 * self.found / max(self.found + self.false + self.asked, 1)

    def __str__(self) -> str:
        return f"{self.found}/{self.asked}, {self.false}"


def judged(boundaries: list[int], truth: CutList) -> Count:
    given = set(boundaries)
    hard = given & set(truth.hard)
    soft = [span for span in truth.soft if given & set(span)]
    return Count(len(hard) + len(soft), len(truth.hard) + len(truth.soft), len(given) - len(hard) - len(soft))


# Where takes come from


def shot_of(argument: str) -> Take:
    """The pictures of CLIP or CLIP:FIRST-END."""
    path, _, span = argument.partition(":")
    first, end = (int(number) for number in span.split("-")) if span else (0, None)
    with av.open(path) as container:
        pictures = [fitted(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    return pictures[first:end]


def fitted(rgb: Picture) -> Picture:
    """Scaled, and cropped about its middle."""
    scale = max(WIDTH_PX / rgb.shape[1], HEIGHT_PX / rgb.shape[0])
    width_px, height_px = round(rgb.shape[1] * scale), round(rgb.shape[0] * scale)
    scaled = cv2.resize(rgb, (width_px, height_px), interpolation=cv2.INTER_AREA)
    left, top = (width_px - WIDTH_PX) // 2, (height_px - HEIGHT_PX) // 2
    return np.ascontiguousarray(scaled[top : top + HEIGHT_PX, left : left + WIDTH_PX])


def made_shots() -> list[Take]:
    portrait = Image.open(Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg").convert("RGB")
    stills = [np.asarray(portrait), data.astronaut(), data.camera(), data.cat(), data.coffee(), data.rocket()]
    stills += [data.coins(), data.stereo_motorcycle()[0]]
    return [camera_moved(still, np.random.default_rng(seed)) for seed, still in enumerate(stills)]


def camera_moved(still: NDArray[np.uint8], rng: np.random.Generator) -> Take:
    """A hand-held camera pans and zooms over a picture of any size, gray or RGB."""
    rgb = still if still.ndim == 3 else np.repeat(still[..., None], 3, axis=2)
    size_px = np.array([rgb.shape[1], rgb.shape[0]])
    widest = float(min(size_px / (WIDTH_PX, HEIGHT_PX)))  # picture pixels for one of the frame
    zooms, places, phases = rng.uniform(0.55, 0.8, 2), rng.uniform(0.4, 0.6, (2, 2)), rng.uniform(0, 6.3, 4)
    take = []
    for index in range(MADE_SHOT_FRAMES):
        part = index / MADE_SHOT_FRAMES
        shake_px = 1.5 * np.sin(index * np.array([0.35, 0.43]) + phases[:2]) + np.sin(index * 0.9 + phases[2:])
        roll = np.deg2rad(np.sin(0.1 * index))
        turn = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
        turn *= widest * ((1 - part) * zooms[0] + part * zooms[1])
        centre_px = ((1 - part) * places[0] + part * places[1]) * size_px + shake_px
        shift_px = centre_px - turn @ (WIDTH_PX / 2, HEIGHT_PX / 2)
        take.append(warped(rgb, np.column_stack([turn, shift_px])))
    return take


def warped(rgb: Picture, source_from_target: NDArray[np.float64]) -> Picture:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size_px = (WIDTH_PX, HEIGHT_PX)
    return cv2.warpAffine(rgb, source_from_target, size_px, flags=flags, borderMode=cv2.BORDER_REFLECT)


def takes(
    shots: list[Take], rng: np.random.Generator, *, frames: tuple[int, int] = TAKE_FRAMES, step: int = 1
) -> list[Take]:
    """Pieces of the shots, no two neighbours from the same; each `step`-th frame, shorter where the shot is."""
    out: list[Take] = []
    shot = -1
    for _ in range(NUM_TAKES):
        shot = int(rng.choice([number for number in range(len(shots)) if number != shot]))
        whole = shots[shot]
        length = min(int(rng.integers(*frames)), len(whole) // step)
        first = int(rng.integers(len(whole) - step * length + 1))
        out.append(whole[first : first + step * length : step])
    return out


# How takes follow one another


def spliced(pieces: list[Take]) -> CutList:
    begins = np.cumsum([len(piece) for piece in pieces])[:-1]
    return CutList([picture for piece in pieces for picture in piece], begins.tolist())


def dissolved(pieces: list[Take], num_frames: int) -> CutList:
    """The last frames of each take under the first ones of the next."""
    pictures, soft = list(pieces[0]), []
    for piece in pieces[1:]:
        num_mixed = min(num_frames, len(piece) - 1, len(pictures) - 1)
        begin = len(pictures) - num_mixed
        for index in range(num_mixed):
            part = (index + 1) / (num_mixed + 1)
            pictures[begin + index] = cv2.addWeighted(pictures[begin + index], 1 - part, piece[index], part, 0)
        pictures += piece[num_mixed:]
        soft.append(range(begin, begin + num_mixed + 1))  # the first picture of the new shot alone is right, too
    return CutList(pictures, [], soft)


def faded(pieces: list[Take], num_frames: int, level: int) -> CutList:
    """Each take comes from one level of gray and goes to it, `num_frames` each way, with as many frames between."""
    plain = np.full((HEIGHT_PX, WIDTH_PX, 3), level, np.uint8)
    pictures: Take = []
    soft = []
    for number, piece in enumerate(pieces):
        begin = len(pictures)
        for index, picture in enumerate(piece):
            part = min((index + 1) / (num_frames + 1), (len(piece) - index) / (num_frames + 1), 1)
            pictures.append(cv2.addWeighted(picture, part, plain, 1 - part, 0))
        if number:
            soft.append(range(begin - 2 * num_frames, begin + num_frames + 1))
        pictures += [plain] * num_frames
    return CutList(pictures, [], soft)


def jumped(pieces: list[Take]) -> CutList:
    """In the middle of each take the camera is suddenly 1.3 to 1.8 times as close."""
    rng = np.random.default_rng(len(pieces[0]))
    pictures: Take = []
    jumps, cuts = [], []
    for piece in pieces:
        cuts.append(len(pictures))
        jumps.append(len(pictures) + len(piece) // 2)
        zoom = 1 / rng.uniform(1.3, 1.8)
        closer = np.array([[zoom, 0, (1 - zoom) * WIDTH_PX / 2], [0, zoom, (1 - zoom) * HEIGHT_PX * 0.4]])
        middle = len(piece) // 2
        pictures += [*piece[:middle], *(warped(picture, closer) for picture in piece[middle:])]
    return CutList(pictures, [], [range(cut, cut + 1) for cut in [*cuts[1:], *jumps]])


# What happens to the pictures of a list


def each(change: Callable[[Picture, np.random.Generator], Picture]) -> Change:
    def changed(cuts: CutList, rng: np.random.Generator) -> CutList:
        return CutList([change(picture, rng) for picture in cuts.pictures], cuts.hard, cuts.soft)

    return changed


def lit(picture: Picture, gain: float, offset: float = 0.0, gamma: float = 1.0) -> Picture:
    levels = 255 * (np.arange(256, dtype=np.float32) / 255) ** np.float32(gamma)
    table: Picture = np.clip(np.round(levels * gain + offset), 0, 255).astype(np.uint8)
    return cv2.LUT(picture, table)


def flickering(picture: Picture, rng: np.random.Generator) -> Picture:
    return lit(picture, rng.uniform(0.7, 1.3), 0, rng.uniform(0.8, 1.25))


def weaving(picture: Picture, rng: np.random.Generator) -> Picture:
    """A film that sits up to 4 px (1.2 % of the width) away from its place in the gate, another way in each frame."""
    return warped(picture, np.column_stack([np.eye(2), rng.uniform(-4, 4, 2)]))


def worn(picture: Picture, rng: np.random.Generator) -> Picture:
    """Four scratches, fifteen grains of dust, now and then a blotch, and grain of sigma 10."""
    out = picture.copy()
    for column in rng.integers(0, WIDTH_PX - 2, 4):
        out[:, column : column + rng.integers(1, 3)] = rng.choice([20, 235])
    for _ in range(15):
        place = int(rng.integers(WIDTH_PX)), int(rng.integers(HEIGHT_PX))
        cv2.circle(out, place, int(rng.integers(1, 4)), (int(rng.choice([10, 245])),) * 3, -1)
    if rng.random() < 0.1:
        place = int(rng.integers(WIDTH_PX)), int(rng.integers(HEIGHT_PX))
        axes = int(rng.integers(10, 35)), int(rng.integers(8, 25))
        cv2.ellipse(out, place, axes, float(rng.uniform(0, 180)), 0, 360, (int(rng.choice([15, 240])),) * 3, -1)
    grain = rng.normal(0, 10, (HEIGHT_PX, WIDTH_PX, 1)).astype(np.float32)
    return np.clip(out + grain, 0, 255).astype(np.uint8)


def old_film(picture: Picture, rng: np.random.Generator) -> Picture:
    gray = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return worn(weaving(flickering(gray, rng), rng), rng)


def pumping(cuts: CutList, rng: np.random.Generator) -> CutList:
    """The light goes slowly up and down by half, and shadows sink into black with it."""
    period, phase = rng.uniform(12, 30), rng.uniform(0, 6.3)
    waves = np.sin(6.283 * np.arange(len(cuts.pictures)) / period + phase)
    pictures = [lit(p, 1 + 0.5 * wave, 20 * wave) for p, wave in zip(cuts.pictures, waves, strict=True)]
    return CutList(pictures, cuts.hard, cuts.soft)


def flashed(picture: Picture, rng: np.random.Generator, *, wholly: bool) -> Picture:
    return lit(picture, 1, 255) if wholly else lit(picture, rng.uniform(1.6, 3.5), rng.uniform(0, 90))


def flashes(cuts: CutList, rng: np.random.Generator) -> CutList:
    """In the middle of every other take one to three frames flash."""
    pictures = list(cuts.pictures)
    for begin, end in list(pairwise([0, *cuts.hard, len(pictures)]))[::2]:
        wholly = bool(rng.random() < 0.3)
        middle = (begin + end) // 2
        for index in range(middle, middle + int(rng.integers(1, 4))):
            pictures[index] = flashed(pictures[index], rng, wholly=wholly)
    return CutList(pictures, cuts.hard, cuts.soft)


def flashes_at_cuts(cuts: CutList, rng: np.random.Generator) -> CutList:
    """One to three frames flash, ending at most two frames before a cut or beginning at most two frames after it."""
    pictures = list(cuts.pictures)
    hard, soft = [], []
    for cut in cuts.hard:
        wholly, length, distance = bool(rng.random() < 0.5), int(rng.integers(1, 4)), int(rng.integers(0, 3))
        begin = cut + distance if rng.random() < 0.5 else cut - distance - length
        for index in range(begin, begin + length):
            pictures[index] = flashed(pictures[index], rng, wholly=wholly)
        if wholly and not distance:
            soft.append(range(begin, begin + length + 1))
        else:
            hard.append(cut)
    return CutList(pictures, hard, soft)


def whips(fastest: float) -> Change:
    """In the middle of every take the camera whips round in eight frames, by `fastest` of the width in the fastest.

    The picture is shown twice as large for it, mirrored at its borders, and blurred along its way.
    """

    def whipped(cuts: CutList, rng: np.random.Generator) -> CutList:
        pictures = []
        for begin, end in pairwise([0, *cuts.hard, len(cuts.pictures)]):
            speeds_px = fastest * WIDTH_PX * np.sin(np.pi * (np.arange(8) + 0.5) / 8)
            first = (end - begin) // 2 - 4
            sign = int(rng.choice([-1, 1]))
            way_px = -sign * float(speeds_px.sum()) / 2
            for index in range(begin, end):
                at = index - begin - first
                speed_px = float(speeds_px[at]) if 0 <= at < 8 else 0.0
                way_px += sign * speed_px
                matrix = np.array([[0.5, 0, WIDTH_PX / 4 + way_px / 2], [0, 0.5, HEIGHT_PX / 6]])
                blur_px = 1 + int(speed_px / 2)  # a shutter open for half of the time
                pictures.append(cv2.blur(warped(cuts.pictures[index], matrix), (blur_px, 1)))
        return CutList(pictures, cuts.hard, cuts.soft)

    return whipped


@dataclass(frozen=True, slots=True)
class Variant:
    change: Change = lambda cuts, rng: cuts
    splice: Callable[[list[Take]], CutList] = spliced
    frames: tuple[int, int] = TAKE_FRAMES
    step: int = 1

    def made(self, shots: list[Take], seed: int) -> CutList:
        rng = np.random.default_rng(seed)
        return self.change(self.splice(takes(shots, rng, frames=self.frames, step=self.step)), rng)


LONG_FRAMES = (50, 60)
HARD_CUTS = {
    "as they are": Variant(),
    "flicker: gain 0.7 to 1.3, gamma 0.8 to 1.25": Variant(each(flickering)),
    "brightness pumping by half": Variant(pumping),
    "flashes of 1 to 3 frames": Variant(flashes),
    "cuts within 2 frames of such flashes": Variant(flashes_at_cuts),
    "scratches, dust, blotches, grain": Variant(each(worn)),
    "gate weave of 4 px": Variant(each(weaving)),
    "old film: the last two and flicker": Variant(each(old_film)),
    "every 2nd frame": Variant(step=2),
    "every 4th frame": Variant(step=4),
    "every 2nd frame, old film": Variant(each(old_film), step=2),
    "whip pans, 5 % of the width a frame": Variant(whips(0.05)),
    "whip pans, 10 %": Variant(whips(0.1)),
    "whip pans, 20 %": Variant(whips(0.2)),
    "shots of 3 to 6 frames": Variant(frames=(3, 7)),
}
SOFT_CUTS = {
    "dissolves of 6 frames": Variant(splice=lambda pieces: dissolved(pieces, 6)),
    "dissolves of 12": Variant(splice=lambda pieces: dissolved(pieces, 12), frames=LONG_FRAMES),
    "dissolves of 25": Variant(splice=lambda pieces: dissolved(pieces, 25), frames=LONG_FRAMES),
    "dissolves of 12, old film": Variant(
        each(old_film), splice=lambda pieces: dissolved(pieces, 12), frames=LONG_FRAMES
    ),
    "fades through black": Variant(splice=lambda pieces: faded(pieces, 8, 0), frames=LONG_FRAMES),
    "fades through white": Variant(splice=lambda pieces: faded(pieces, 8, 255), frames=LONG_FRAMES),
    "jump cuts (and as many cuts)": Variant(splice=jumped),
}


# Who finds them


def ours(pictures: Iterable[Picture]) -> list[int]:
    detector = CutDetector()
    return [index for index, picture in enumerate(pictures) if detector.is_cut(frame_from_rgb(picture))]


def by_scenedetect(detector: Any, pictures: Iterable[Picture]) -> list[int]:
    from scenedetect import FrameTimecode

    boundaries = []
    now = FrameTimecode(0, fps=25.0)
    for index, picture in enumerate(pictures):
        now = FrameTimecode(index, fps=25.0)
        boundaries += detector.process_frame(now, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    boundaries += detector.post_process(now)
    return [boundary.frame_num for boundary in boundaries]


def finders() -> dict[str, Finder]:
    found: dict[str, Finder] = {"ours": ours}
    try:
        from scenedetect import AdaptiveDetector, ContentDetector
    except ImportError:
        return found
    found["content"] = lambda pictures: by_scenedetect(ContentDetector(), pictures)
    found["adaptive"] = lambda pictures: by_scenedetect(AdaptiveDetector(), pictures)
    found["adaptive, tuned"] = lambda pictures: by_scenedetect(
        AdaptiveDetector(adaptive_threshold=2.5, min_content_val=20.0, min_scene_len=3), pictures
    )
    return found


def main(clips: list[str]) -> None:
    shots = [shot_of(clip) for clip in clips] if clips else made_shots()
    names = finders()
    print("| found of asked, false | " + " | ".join(names) + " |")
    print("|" + "---|" * (len(names) + 1))
    for group, variants in (("hard cuts", HARD_CUTS), ("", SOFT_CUTS)):
        sums = {name: Count() for name in names}
        spent_s = dict.fromkeys(names, 0.0)
        num_pictures = 0
        for title, variant in variants.items():
            row = {name: Count() for name in names}
            for seed in SEEDS:
                cuts = variant.made(shots, seed)
                num_pictures += len(cuts.pictures)
                for name, find in names.items():
                    begin_s = time.process_time()
                    boundaries = find(cuts.pictures)
                    spent_s[name] += time.process_time() - begin_s
                    row[name].add(judged(boundaries, cuts))
            for name in names:
                sums[name].add(row[name])
            print(f"| {title} | " + " | ".join(str(row[name]) for name in names) + " |", flush=True)
        if group:
            print(f"| all {group} | " + " | ".join(str(sums[name]) for name in names) + " |")
            print("| F1 | " + " | ".join(f"{sums[name].f1:.3f}" for name in names) + " |")
            print("| CPU ms a frame | " + " | ".join(f"{1000 * spent_s[n] / num_pictures:.2f}" for n in names) + " |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("clips", nargs="*", metavar="CLIP[:FIRST-END]")
    main(parser.parse_args().clips)
