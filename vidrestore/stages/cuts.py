"""Scene cuts: where every track ends.

Two neighbouring frames of one shot show the same things, a little moved. So dense optical flow is asked to carry each
onto the other, and two things are measured: how much fine structure it leaves unexplained (one minus the correlation,
which a change of light does not touch), and how far the way there and back misses the starting point. Flow can bend one
face into another, but not there and back. Flow: Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV
2016, as in OpenCV. The check: Sundaram et al., "Dense point trajectories by GPU-accelerated large displacement optical
flow", ECCV 2010. What is no cut is kept out by four things: light that one frame has lost in black or white is taken
from the other as well (flashes, pumping); the correlation is the median over blocks, and counts structure that both
have (blotches, empty skies); a fast turn of the camera is undone before the flow; and a cut must part the new frame
from the last two.

The sum of both, measured on the lists of `tests/bench/cuts.py`, from clips and from sample pictures. Across a cut:
different scenes 1.42 and more (700 pairs), portraits of different people in like framing 95 % above 0.85, aligned
before a studio's white 62 %. Within a shot, of 2,000 pairs that differ as they stand: 0.2 at most; at half the frame
rate 0.37, at a quarter 0.77; gain changing between 0.7 and 1.3 from frame to frame 0.46; pumping light and flashes
0.47; worn film 0.72; whip pans of a tenth of the width a frame 0.81, of a fifth 98 % below 0.85.

A dissolve is no boundary here. Measured with the tracker on 24 dissolves of 6, 12 and 25 frames between four faces: the
faces after it are 1.7 to 2.2 % of the eye distance (RMS, 7.4 % at most) from where they are tracked alone; with a
boundary in the middle it is 1.6 to 2.1 % (7.6 %), so it would keep nobody from being dragged. Where both faces are at
one place, in 7 of them, the track's id goes over to the second. But at a boundary nothing fades: 74 times a restoration
came or went at once, and 25 times without one. A short dissolve may still be called a cut, never twice. A fade is
called a cut where the next picture comes out of black or white.

PySceneDetect 0.7 was measured on the same lists. Its scores follow the light: the best of 180 settings of its adaptive
detector found 90 % of the hard cuts and a false one for every seven, mostly flashes and flicker.
"""

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vidrestore.frame import Frame

THUMB_WIDTH_PX, THUMB_HEIGHT_PX = 96, 54
"""Small enough for 1 ms a frame, large enough for a face in the crowd to be structure. The aspect ratio is not kept."""
CUT_SCORE = 0.85
"""Between the two distributions above."""
SAME_SCORE = 0.2
"""Frames whose structure, unmoved, differs less than this are neighbours, and most are; that saves the flow. Across
cuts it was 0.68 and more, between portraits aligned on a studio's white from 0.14 on."""
RECENT_FRAMES = 8
"""A shot's own unrest (scratches, fast motion, a low frame rate) is the median score of so many frames."""
MAX_UNREST = 0.3
"""The most that a restless shot may raise the bar, and how much it is raised while nothing is known of the shot."""
MIN_CONTRAST = 2.5
"""Standard deviation, in levels of 255, below which a frame shows nothing (white flash, black) and decides nothing."""
BURNT_OUT_PART = 0.85
"""Part of a frame at its own brightest level above which a flash has left too little to compare. With 0.7 two of
96 cuts beside flashes were found late, with 0.85 one."""
CLIPPED_LEVELS = 3.0
"""How close to a frame's own brightest or darkest level, of 255, counts as clipped: compression leaves clipped areas
not quite flat."""
MIN_CLIPPED_PART = 0.05
"""So much of the brightest and of the darkest is made equal in any case: a white blotch on a dark picture would be most
of its contrast, and the rest nothing."""
MAX_FLASH_FRAMES = 3
"""A burnt-out frame waits so long for the picture to come back; after that it is the picture (a white studio)."""
DETAIL_SIGMA_PX = 5.0
"""Structure wider than this, in thumbnail pixels, is layout and light: two talking heads share it, so it is removed."""
DESPECKLE_PX = 5
"""Median filter that takes dust and scratches off a thumbnail."""
NUM_BLOCKS = 6
"""Each way. A blotch on the film spoils a few blocks; a cut changes most."""
FLOW_CONTRAST = 50.0
"""Thumbnails are stretched to this standard deviation for the flow, so that light does not matter to it either."""
MIN_SHIFT_PX = 2
"""In thumbnail pixels; flow needs no help with less."""
MAX_SHIFT_PART = 0.5
"""Of the width or height. Frames that a whip pan leaves less in common are not compared."""


@dataclass(frozen=True, slots=True, eq=False)
class Thumb:
    """A frame reduced to what a cut is decided on."""

    levels: NDArray[np.float32]
    """(THUMB_HEIGHT_PX, THUMB_WIDTH_PX), 0 to 255; green in an RGB source."""
    dark_part: float
    """Part of the area that is at its own darkest level."""
    bright_part: float
    """The same at the brightest level."""

    @property
    def is_burnt_out(self) -> bool:
        return self.bright_part > BURNT_OUT_PART


class CutDetector:
    """Tells where a new shot begins. Feed it every frame, in order."""

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._flow.setFinestScale(1)
        # With it, the flow depends on the number of threads, and is better at bending one scene into another.
        self._flow.setUseSpatialPropagation(False)
        self._hann = cv2.createHanningWindow((THUMB_WIDTH_PX, THUMB_HEIGHT_PX), cv2.CV_32F)
        self._previous: Thumb | None = None
        self._before_previous: Thumb | None = None
        self._num_flash_frames = 0
        self._recent_scores: deque[float] = deque(maxlen=RECENT_FRAMES)

    def is_cut(self, frame: Frame) -> bool:
        """True when a new shot begins with this frame; never for the first one.

        After a cut nothing is remembered of the shot before it. Frames that show nothing are passed over: the picture
        after a white flash is compared with the one before it, and so is the picture on the far side of black.
        """
        thumb = reduced(frame)
        if thumb is None:
            return False
        previous, before_previous = self._previous, self._before_previous
        if previous is None:
            self._previous = thumb
            return False
        if thumb.is_burnt_out and not previous.is_burnt_out and self._num_flash_frames < MAX_FLASH_FRAMES:
            self._num_flash_frames += 1
            return False
        self._previous, self._before_previous, self._num_flash_frames = thumb, previous, 0
        score = self._score(previous, thumb)
        unrest = float(np.median(self._recent_scores)) if self._recent_scores else MAX_UNREST
        bar = CUT_SCORE + min(unrest, MAX_UNREST)
        # What was wrong with the previous frame alone (a blotch, a flash, a torn frame) is not the end of a shot.
        if score > bar and (before_previous is None or self._score(before_previous, thumb) > bar):
            self._recent_scores.clear()
            self._before_previous = None
            return True
        self._recent_scores.append(score)
        return False

    def _score(self, before: Thumb, after: Thumb) -> float:
        """0 = the same picture; two that have nothing in common reach 1 and more."""
        first, second = lit_alike(before, after)
        unmoved = unexplained(first, second)
        if unmoved < SAME_SCORE:
            return unmoved
        score = self._flow_score(first, second)
        if score > CUT_SCORE:
            overlap = self._overlap(first, second)
            if overlap is not None:
                score = min(score, self._flow_score(*overlap))
        return score

    def _flow_score(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> float:
        there_px = self._flow.calc(flow_input(after), flow_input(before), None)  # (h, w, 2), after -> before
        back_px = self._flow.calc(flow_input(before), flow_input(after), None)
        missed_px = np.linalg.norm(there_px + carried(back_px, there_px), axis=2)
        return unexplained(carried(before, there_px), after) + float(np.median(missed_px))

    def _overlap(
        self, before: NDArray[np.float32], after: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """What both show if the camera was turned between them, too fast for flow; enlarged to the size of a thumbnail.

        By phase correlation (Kuglin and Hines, 1975), as in OpenCV. None when it finds no such shift.
        """
        (x_px, y_px), _ = cv2.phaseCorrelate(fine(before), fine(after), self._hann)
        right, down = round(x_px), round(y_px)
        if abs(right) + abs(down) < MIN_SHIFT_PX:
            return None
        if abs(right) > MAX_SHIFT_PART * THUMB_WIDTH_PX or abs(down) > MAX_SHIFT_PART * THUMB_HEIGHT_PX:
            return None
        height_px, width_px = THUMB_HEIGHT_PX - abs(down), THUMB_WIDTH_PX - abs(right)
        top, left = max(-down, 0), max(-right, 0)
        in_before = before[top : top + height_px, left : left + width_px]
        in_after = after[top + down :, left + right :][:height_px, :width_px]
        size_px = (THUMB_WIDTH_PX, THUMB_HEIGHT_PX)
        return normalised(cv2.resize(in_before, size_px)), normalised(cv2.resize(in_after, size_px))


class CutsAhead:
    """The cuts of a video for two stages, of which one sees each frame earlier than the other."""

    def __init__(self) -> None:
        self._detector = CutDetector()
        self._answers: deque[tuple[Frame, bool]] = deque()

    def is_cut(self, frame: Frame) -> bool:
        """For the stage that is ahead: `CutDetector.is_cut`."""
        answer = self._detector.is_cut(frame)
        self._answers.append((frame, answer))
        return answer

    def was_cut(self, frame: Frame) -> bool:
        """For the stage behind, which asks of the same frames in the same order: the same answers."""
        judged, answer = self._answers.popleft()
        assert judged is frame, "frames came in another order than that in which they were judged"
        return answer


def reduced(frame: Frame) -> Thumb | None:
    """The thumbnail of a frame; None when there is nothing to see on it."""
    size_px = (THUMB_WIDTH_PX, THUMB_HEIGHT_PX)
    levels = cv2.resize(frame.planes[0], size_px, interpolation=cv2.INTER_AREA).astype(np.float32)
    levels = cv2.medianBlur(levels * np.float32(255 / (2**frame.layout.depth_bits - 1)), DESPECKLE_PX)
    if float(levels.std()) < MIN_CONTRAST:
        return None
    dark_part = float((levels <= levels.min() + CLIPPED_LEVELS).mean())
    bright_part = float((levels >= levels.max() - CLIPPED_LEVELS).mean())
    return Thumb(levels, dark_part, bright_part)


def lit_alike(first: Thumb, second: Thumb) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The levels of both with mean 0 and standard deviation 1, and what one has lost in black or white lost in both."""
    dark_part = max(first.dark_part, second.dark_part, MIN_CLIPPED_PART)
    bright_part = max(first.bright_part, second.bright_part, MIN_CLIPPED_PART)
    num_dark, num_bright = (int(part * first.levels.size) for part in (dark_part, bright_part))
    kept = [clipped(thumb.levels, num_dark, num_bright) for thumb in (first, second)]
    if min(float(levels.std()) for levels in kept) < MIN_CONTRAST:  # such as a title on black
        kept = [first.levels, second.levels]
    return normalised(kept[0]), normalised(kept[1])


def clipped(levels: NDArray[np.float32], num_dark: int, num_bright: int) -> NDArray[np.float32]:
    """So many of the darkest and of the brightest pixels made equal."""
    ends = (num_dark, levels.size - 1 - num_bright)
    in_order = np.partition(levels, ends, axis=None)
    limited: NDArray[np.float32] = np.clip(levels, in_order[ends[0]], in_order[ends[1]])
    return limited


def normalised(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean 0 and standard deviation 1 (0 where nothing is to be seen)."""
    shifted: NDArray[np.float32] = levels - levels.mean()
    return shifted / max(float(shifted.std()), 1e-3)


def carried(picture: NDArray[np.float32], motion_px: NDArray[np.float32]) -> NDArray[np.float32]:
    """(h, w) or (h, w, 2) sampled at each place plus its motion, (h, w, 2)."""
    rows, columns = np.indices(motion_px.shape[:2], dtype=np.float32)
    from_x, from_y = columns + motion_px[..., 0], rows + motion_px[..., 1]
    moved: NDArray[np.float32] = cv2.remap(picture, from_x, from_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return moved


def unexplained(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """One minus the correlation of the fine structure of two thumbnails: the median over blocks.

    A block counts by the structure that both have there. So an empty sky says nothing, nor does a blotch.
    """
    ours, theirs = blocks(fine(first)), blocks(fine(second))
    spread, their_spread = np.sqrt((ours * ours).mean(axis=1)), np.sqrt((theirs * theirs).mean(axis=1))
    alike = (ours * theirs).mean(axis=1) / np.maximum(spread * their_spread, 1e-6)
    order = np.argsort(-alike)
    weights = np.cumsum(np.minimum(spread, their_spread)[order])
    return 1.0 - float(alike[order][np.searchsorted(weights, weights[-1] / 2)])


def blocks(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """(h, w) -> (NUM_BLOCKS ** 2, h * w / NUM_BLOCKS ** 2), each with mean 0."""
    height_px, width_px = THUMB_HEIGHT_PX // NUM_BLOCKS, THUMB_WIDTH_PX // NUM_BLOCKS
    split = values.reshape(NUM_BLOCKS, height_px, NUM_BLOCKS, width_px).swapaxes(1, 2)
    each: NDArray[np.float32] = split.reshape(NUM_BLOCKS**2, height_px * width_px)
    return each - each.mean(axis=1, keepdims=True)


def flow_input(thumb: NDArray[np.float32]) -> NDArray[np.uint8]:
    stretched: NDArray[np.uint8] = np.clip(128 + FLOW_CONTRAST * thumb, 0, 255).astype(np.uint8)
    return stretched


def fine(thumb: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a wide blur leaves over."""
    left: NDArray[np.float32] = thumb - cv2.GaussianBlur(thumb, (0, 0), DETAIL_SIGMA_PX)
    return left
