"""Scene cuts: where every track ends.

Two neighbouring frames of one shot show the same things, a little moved. So dense optical flow is asked to carry each
onto the other, and two things are measured: how much fine structure it leaves unexplained (one minus the correlation,
which a change of light does not touch), and how far the way there and back misses the starting point. Flow can bend one
face into another, but not there and back. Flow: Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV
2016, as in OpenCV. The check: Sundaram et al., "Dense point trajectories by GPU-accelerated large displacement optical
flow", ECCV 2010.

The sum of both, measured over 343 pairs of neighbours in nine shots (sharp, soft, scratched film, pans) and over pairs
across a cut. Across a cut: different scenes 1.56 and more (800 pairs), portraits of different people in like framing
98 % above 0.85. Within a shot: 0.30 at most; at half the frame rate 0.52, at a quarter 0.81; gain changing between 0.7
and 1.3 from frame to frame 0.27; a flash that doubles the light and clips a third of the picture 0.79; noise of sigma
20 0.40; heavy scratches and blobs of dust 0.74. Splices of those shots (20 cuts in each of six runs, plain, flickering,
with flashes, worn, at a half to a quarter of the frame rate): every cut found, none invented.
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
cuts it was 0.42 and more."""
RECENT_FRAMES = 8
"""A shot's own unrest (scratches, fast motion, a low frame rate) is the median score of so many frames."""
MAX_UNREST = 0.3
"""The most that a restless shot may raise the bar."""
MIN_CONTRAST = 2.5
"""Standard deviation, in levels of 255, below which a frame shows nothing (white flash, black) and decides nothing."""
BURNT_OUT_PART = 0.35
"""Part of a frame at its own brightest level above which a flash has taken the structure away: flashes that score like
a cut burnt out 0.40 and more, ordinary shots 0.01."""
BURNT_OUT_LEVELS = 3.0
"""How close to the brightest level, of 255, counts as burnt out: compression leaves clipped areas not quite flat."""
MAX_FLASH_FRAMES = 3
"""A burnt-out frame waits so long for the picture to come back; after that it is the picture (a white studio)."""
DETAIL_SIGMA_PX = 5.0
"""Structure wider than this, in thumbnail pixels, is layout and light: two talking heads share it, so it is removed."""
DESPECKLE_PX = 3
"""Median filter that takes dust and scratches off a thumbnail."""
FLOW_CONTRAST = 50.0
"""Thumbnails are stretched to this standard deviation for the flow, so that light does not matter to it either."""


@dataclass(frozen=True, slots=True, eq=False)
class Thumb:
    """A frame reduced to what a cut is decided on."""

    luma: NDArray[np.float32]
    """(THUMB_HEIGHT_PX, THUMB_WIDTH_PX), mean 0 and standard deviation 1; green in an RGB source."""
    is_burnt_out: bool


class CutDetector:
    """Tells where a new shot begins. Feed it every frame, in order."""

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._flow.setFinestScale(1)
        # With it, the flow depends on the number of threads, and is better at bending one scene into another.
        self._flow.setUseSpatialPropagation(False)
        self._previous: Thumb | None = None
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
        previous = self._previous
        if previous is None:
            self._previous = thumb
            return False
        if thumb.is_burnt_out and not previous.is_burnt_out and self._num_flash_frames < MAX_FLASH_FRAMES:
            self._num_flash_frames += 1
            return False
        self._previous, self._num_flash_frames = thumb, 0
        score = self._score(previous.luma, thumb.luma)
        unrest = float(np.median(self._recent_scores)) if self._recent_scores else 0.0
        if score > CUT_SCORE + min(unrest, MAX_UNREST):
            self._recent_scores.clear()
            return True
        self._recent_scores.append(score)
        return False

    def _score(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> float:
        """0 = the same picture; two that have nothing in common reach 1 and more."""
        unmoved = unexplained(before, after)
        if unmoved < SAME_SCORE:
            return unmoved
        there_px = self._flow.calc(flow_input(after), flow_input(before), None)  # (h, w, 2), after -> before
        back_px = self._flow.calc(flow_input(before), flow_input(after), None)
        missed_px = np.linalg.norm(there_px + carried(back_px, there_px), axis=2)
        return unexplained(carried(before, there_px), after) + float(np.median(missed_px))


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
    contrast = float(levels.std())
    if contrast < MIN_CONTRAST:
        return None
    burnt_out_part = float((levels >= levels.max() - BURNT_OUT_LEVELS).mean())
    return Thumb((levels - levels.mean()) / contrast, burnt_out_part > BURNT_OUT_PART)


def carried(picture: NDArray[np.float32], motion_px: NDArray[np.float32]) -> NDArray[np.float32]:
    """(h, w) or (h, w, 2) sampled at each place plus its motion, (h, w, 2)."""
    rows, columns = np.indices(motion_px.shape[:2], dtype=np.float32)
    from_x, from_y = columns + motion_px[..., 0], rows + motion_px[..., 1]
    moved: NDArray[np.float32] = cv2.remap(picture, from_x, from_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return moved


def unexplained(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """One minus the correlation of the fine structure of two thumbnails."""
    return 1.0 - float((detail(first) * detail(second)).mean())


def flow_input(thumb: NDArray[np.float32]) -> NDArray[np.uint8]:
    stretched: NDArray[np.uint8] = np.clip(128 + FLOW_CONTRAST * thumb, 0, 255).astype(np.uint8)
    return stretched


def detail(thumb: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a wide blur leaves over, with standard deviation 1 (0 where there is none)."""
    fine = thumb - cv2.GaussianBlur(thumb, (0, 0), DETAIL_SIGMA_PX)
    fine -= fine.mean()
    spread = float(fine.std())
    normalised: NDArray[np.float32] = fine / max(spread, 1e-3)
    return normalised
