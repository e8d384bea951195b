"""How a face moves: a Kalman filter forward in time, and a Rauch-Tung-Striebel pass back over the frames that are held.

Every coordinate of a face (two corners of its box, five landmarks: 14 numbers) moves by the same model: position,
velocity and a random acceleration (Singer, "Estimating optimal tracking filter performance for manned maneuvering
targets", IEEE T-AES 1970), where velocity and acceleration fade, so that a face that is out of sight comes to rest
instead of flying off. Same model, same noise, so one 3 x 3 covariance serves all coordinates and the state is a (3, 14)
matrix. It is kept in units of face size, the state in pixels; no gain then depends on how large the face is.

Where optical flow tells how the face moved (`flow.py`), that takes the place of the model: the state is kept in
coordinates that move with the face, in which it hardly moves, and many detections tell where it is. What trembles then
is the flow itself, by a tenth or less of what detections do. A parabola through the five frames around takes that away,
where the face moves as smoothly as a parabola.

What must be steady is the crop, a similarity transform fitted to the landmarks. With one gain for all coordinates,
smoothing the landmarks smooths that transform: the least-squares similarity that maps a template to landmarks is linear
in them.

`tests/bench/tracking.py` measures it along known paths. Constant velocity with the same jitter follows a fast shake
worse.
"""

import math
from collections import deque
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from filterpy.common import van_loan_discretization
from filterpy.kalman import KalmanFilter
from numpy.typing import NDArray

from vidrestore.face import Detection, box_size_px
from vidrestore.stages.flow import Carried

Array = NDArray[np.float64]

DETECTION_NOISE = 0.01
"""Standard deviation of a sure detection's coordinates, in face sizes. Of the 1.2 px measured on a 114 px face, 0.7 px
are new in each frame and the rest varies slowly with the pose."""
MIN_SCORE = 0.2
"""A detection's noise is taken as DETECTION_NOISE / score, down to this score."""
ACCELERATION_NOISE = 20.0
"""Root of the spectral density of what drives the acceleration, face sizes / s^2.5. From 10 to 20 the RMSE on fast
motion falls from 1.13 to 0.80 px while the mean jitter on smooth paths rises from 0.23 to 0.36 %, and then goes on
rising alone."""
ACCELERATION_FADES_S = 0.2
VELOCITY_FADES_S = 0.5
"""Time constants. They hardly change a smoothed path, but more than halve the error of predicting 0.5 s ahead (from 70
to 27 % of the face's size, over all those paths)."""
START_SPEED = 1.0
"""Standard deviation of the velocity of a face just found, face sizes / s."""
START_ACCELERATION = 5.0
"""The same for the acceleration, face sizes / s^2."""
GATE_SIGMAS = 6.0
"""A detection further (root mean square over its coordinates) from the prediction is disbelieved at first."""
JUMP_AGREEMENT = 0.25
"""Two disbelieved detections no further apart than this, in face sizes (root mean square), saw the same jump."""
MAX_STEP_S = 1.0
"""Longer silences tell no more: by then velocity has faded."""
DEFORMATION = 0.001
"""What a face does beside the motion of the whole (lips, turning away), face sizes / s^0.5."""
SURPRISE_MEMORY = 0.8
"""How much of the surprise at earlier detections is remembered: 5 detections."""
MAX_SURPRISE = 10.0
"""Detections that go on surprising (a head that turns) are believed more, up to so many times the usual deviation."""
AROUND_FRAMES = 2
"""Of a parabola, before and after the frame."""
SMOOTH, UNEVEN = 0.001, 0.002
"""Distance of the frames around from their parabola, face sizes: below the first it is all noise and the parabola is
believed, above the second the face has changed its speed and it is not."""
EASING_S = 0.12
"""Time constant, for faces that flow carries. Without it a look at every fourth frame shows as a tremble of that
period: crop jitter on the ten paths 0.13 to 0.36 % of the eye distance, with it 0.09 to 0.28."""
CARRIED_TRANSITION = np.diag([1.0, 0.0, 0.0])
"""In coordinates that move with the face it stays where it is. Velocity is what flow last saw."""
CARRIED_SPEED_NOISE, CARRIED_ACCELERATION_NOISE = 0.3, 5.0
"""Standard deviations of velocity and acceleration, should flow be lost in the next frame; face sizes, seconds."""
POSITION_ONLY = np.array([[1.0, 0.0, 0.0]])
"""What a detector measures of (position, velocity, acceleration)."""
START_COVARIANCE = np.diag([DETECTION_NOISE**2, START_SPEED**2, START_ACCELERATION**2])


@lru_cache(maxsize=256)
def transition(step_s: float) -> tuple[Array, Array]:
    """(3, 3) state transition and (3, 3) process noise, in face sizes and seconds, over a step of time."""
    change = np.array([[0, 1, 0], [0, -1 / VELOCITY_FADES_S, 1], [0, 0, -1 / ACCELERATION_FADES_S]])
    driven_by = np.array([[0.0], [0.0], [ACCELERATION_NOISE]])
    step, noise = van_loan_discretization(change, driven_by, step_s)
    return step, noise


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """The filter after one frame, and how it came there from the frame before."""

    state: Array
    """(3, 14) position in px, velocity, acceleration."""
    covariance: Array
    """(3, 3), in face sizes."""
    transition: Array
    """(3, 3) from the step before; zeros where the motion began anew."""
    process_noise: Array
    """(3, 3)"""
    to_frame: Array
    """(3, 3) from the coordinates of the state to px of the frame."""
    time_s: float
    is_carried: bool
    """Whether flow told of the way from the step before."""


@dataclass(frozen=True, slots=True, eq=False)
class Measurement:
    """A detection as the filter takes it."""

    coordinates_px: Array
    """(14,) x1, y1, x2, y2 of the box, then x, y of each landmark; in the coordinates of the state."""
    size_px: float
    """Side of a square as large as the box."""
    variance: float
    """Of each coordinate, in face sizes."""

    @classmethod
    def of(cls, detection: Detection, to_frame: Array) -> "Measurement":
        coordinates_px = np.concatenate([detection.box_xyxy_px, detection.landmarks_px.ravel()]).astype(np.float64)
        from_frame = np.asarray(np.linalg.inv(to_frame), np.float64)
        size_px = float(box_size_px(coordinates_px[:4])) * scale_of(from_frame)
        variance = (DETECTION_NOISE / max(detection.score, MIN_SCORE)) ** 2
        return cls(moved(coordinates_px, from_frame), size_px, variance)


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """What was told of a frame that is no longer held."""

    time_s: float
    state: Array
    """(14,) in the coordinates of the state."""
    coordinates_px: Array
    """(14,) in its frame, before the parabola."""
    is_carried: bool


class FaceMotion:
    """The motion of one face. Call `advance` for every later frame, then `observe` if the face was found in it.

    Frames stay held until `drop_oldest`; `oldest` is the estimate for the oldest held frame, given all later ones.
    """

    def __init__(self, detection: Detection) -> None:
        self._filter = KalmanFilter(dim_x=3, dim_z=1)
        self._steps: deque[Step] = deque()
        self._doubted: Measurement | None = None
        """The detection in the newest frame, when it was disbelieved."""
        self._doubted_before: Measurement | None = None
        """The same for the frame before."""
        self._surprise = 0.0
        """Mean square of how far detections were from where flow and those before them had the face, in deviations."""
        self._given: deque[Given] = deque(maxlen=AROUND_FRAMES)
        self._judged: tuple[Step, Step, Array] | None = None
        """The oldest and the newest step for which `_eased` was last asked, and its answer."""
        self._begin(Measurement.of(detection, np.eye(3)), np.eye(3), 0.0)

    def advance(self, step_s: float, carried: Carried | None = None) -> None:
        """Predict the face `step_s` later (0 or more) and hold the new frame. `carried`: how flow saw it move."""
        newest = self._newest
        step_s = min(max(step_s, 0.0), MAX_STEP_S)
        to_frame = newest.to_frame
        if carried is None:
            step, noise = transition(step_s)
            self._filter.predict(F=step, Q=noise)
        else:
            to_frame = np.vstack([carried.frame_from_before, [0, 0, 1]]) @ newest.to_frame
            step, noise = CARRIED_TRANSITION, self._carried_noise(step_s, carried)
            self._filter.predict(F=step, Q=noise)
            position = self._filter.x[0]
            way_px = moved(position, np.asarray(np.linalg.inv(newest.to_frame) @ to_frame)) - position
            self._filter.x[1] = way_px / step_s if step_s > 0 else 0.0
        self._hold(step, noise, to_frame, newest.time_s + step_s, is_carried=carried is not None)
        self._doubted_before, self._doubted = self._doubted, None

    def observe(self, detection: Detection) -> None:
        """Correct the newest frame by what was detected in it.

        A detection far from the prediction is left out as an outlier. When the next one is far off too, the face has
        really jumped: its motion begins anew, in the frame of the first of the two if they agree.
        """
        measured = Measurement.of(detection, self._steps[-1].to_frame)
        if self._is_expected(measured):
            self._correct(measured)
        elif self._doubted_before is None:
            self._doubted = measured
        elif len(self._steps) > 1 and are_close(self._doubted_before, measured):
            newest, first = self._steps.pop(), self._steps.pop()
            self._begin(self._doubted_before, first.to_frame, first.time_s)
            self._filter.predict(F=newest.transition, Q=newest.process_noise)
            self._hold_again(newest)
            self._correct(measured)
        else:
            newest = self._steps.pop()
            self._begin(measured, newest.to_frame, newest.time_s)

    @property
    def newest_box_xyxy_px(self) -> NDArray[np.float32]:
        """(4,), from this and earlier frames."""
        newest = self._newest
        return moved(newest.state[0], newest.to_frame)[:4].astype(np.float32)

    @property
    def newest_landmarks_px(self) -> NDArray[np.float32]:
        """(5, 2), from this and earlier frames."""
        newest = self._newest
        return moved(newest.state[0], newest.to_frame)[4:].reshape(5, 2).astype(np.float32)

    def oldest(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Box (4,) and landmarks (5, 2) in the oldest held frame, smoothed by all held frames."""
        coordinates_px = self._along_the_path(self._eased()).astype(np.float32)
        return coordinates_px[:4], coordinates_px[4:].reshape(5, 2)

    def drop_oldest(self) -> None:
        eased = self._eased()
        oldest = self._steps.popleft()
        self._given.append(Given(oldest.time_s, eased[0], moved(eased[0], oldest.to_frame), oldest.is_carried))

    def _eased(self) -> Array:
        """(1 + AROUND_FRAMES or fewer, 14) the oldest frames in the coordinates of the state, given all held frames.

        What a new detection at the other end of the lag says comes little by little.
        """
        oldest, newest = self._steps[0], self._steps[-1]
        if self._judged is None or self._judged[0] is not oldest or self._judged[1] is not newest:
            eased = self._smoothed()[: 1 + AROUND_FRAMES]
            if self._given and oldest.is_carried:
                before = self._given[-1]
                part = math.exp((before.time_s - oldest.time_s) / EASING_S)
                eased = eased + part * (before.state - eased[0])
            self._judged = oldest, newest, eased
        return self._judged[2]

    def _smoothed(self) -> Array:
        """(n, 14) all held frames in the coordinates of the state."""
        states = np.stack([step.state for step in self._steps])  # (n, 3, 14)
        if len(states) > 1:
            covariances = np.stack([step.covariance for step in self._steps])
            transitions = [step.transition for step in self._steps]
            noises = [step.process_noise for step in self._steps]
            states = self._filter.rts_smoother(states, covariances, transitions, noises)[0]
        return np.asarray(states[:, 0])

    def _along_the_path(self, eased: Array) -> Array:
        """(14,) px of the oldest frame, on the parabola through the frames around it as far as they lie on one."""
        ahead = zip(self._steps, eased, strict=False)
        rows_ahead = [(step.time_s, moved(state, step.to_frame), step.is_carried) for step, state in ahead]
        path = [*((given.time_s, given.coordinates_px, given.is_carried) for given in self._given), *rows_ahead]
        # Only neighbours that flow joins; the first one's own way from before does not matter.
        here = len(self._given)
        first, last = here, here
        while first > 0 and path[first][2]:
            first -= 1
        while last + 1 < len(path) and path[last + 1][2]:
            last += 1
        own = path[here][1]
        times_s = np.array([time_s for time_s, _, _ in path[first : last + 1]]) - path[here][0]
        # A parabola goes through three points in any case.
        if last - first < AROUND_FRAMES + 1 or times_s[-1] <= times_s[0]:
            return own
        rows = np.stack([row for _, row, _ in path[first : last + 1]])
        nearness = 1 - (np.abs(np.arange(first, last + 1) - here) / (AROUND_FRAMES + 1)) ** 3
        powers = np.vander(times_s / (times_s[-1] - times_s[0]), 3, increasing=True)
        root = np.sqrt(nearness**3)[:, None]
        fitted = np.linalg.lstsq(powers * root, rows * root, rcond=None)[0]
        unevenness = rms(rows - powers @ fitted) / float(box_size_px(own[:4]))
        trust = min(max((UNEVEN - unevenness) / (UNEVEN - SMOOTH), 0.0), 1.0)
        return np.asarray(own + trust * (fitted[0] - own))

    def _carried_noise(self, step_s: float, carried: Carried) -> Array:
        variance = carried.noise**2 + DEFORMATION**2 * step_s
        believed = min(max(self._surprise, 1.0), MAX_SURPRISE**2)
        return np.diag([variance * believed, CARRIED_SPEED_NOISE**2, CARRIED_ACCELERATION_NOISE**2])

    def _begin(self, measured: Measurement, to_frame: Array, time_s: float) -> None:
        self._filter.x = np.zeros((3, measured.coordinates_px.size))
        self._filter.x[0] = measured.coordinates_px
        self._filter.P = START_COVARIANCE.copy()
        # A transition of zeros tells the backward pass that the frame before knows nothing of this one.
        self._hold(np.zeros((3, 3)), START_COVARIANCE, to_frame, time_s, is_carried=False)

    def _is_expected(self, measured: Measurement) -> bool:
        surprise = (measured.coordinates_px - self._filter.x[0]) / measured.size_px
        variance = float(self._filter.P[0, 0]) + measured.variance
        return rms(surprise) <= GATE_SIGMAS * math.sqrt(variance)

    def _correct(self, measured: Measurement) -> None:
        error = (measured.coordinates_px - self._filter.x[0]) / measured.size_px
        surprise = rms(error) ** 2 / (float(self._filter.P[0, 0]) + measured.variance)
        self._surprise += (1 - SURPRISE_MEMORY) * (surprise - self._surprise)
        # H is given with the call because filterpy then takes z as it is, a row of coordinates, and not one number.
        self._filter.update(measured.coordinates_px[None, :], R=measured.variance, H=POSITION_ONLY)
        self._hold_again(self._steps.pop())

    def _hold_again(self, step: Step) -> None:
        """With the filter as it is now."""
        self._hold(step.transition, step.process_noise, step.to_frame, step.time_s, is_carried=step.is_carried)

    def _hold(
        self, transition_: Array, process_noise: Array, to_frame: Array, time_s: float, *, is_carried: bool
    ) -> None:
        state, covariance = self._filter.x.copy(), self._filter.P.copy()
        self._newest = Step(state, covariance, transition_, process_noise, to_frame, time_s, is_carried)
        self._steps.append(self._newest)


def are_close(first: Measurement, second: Measurement) -> bool:
    """Whether detections in neighbouring frames may be one face in one place."""
    apart_px = first.coordinates_px - second.coordinates_px
    return rms(apart_px) <= JUMP_AGREEMENT * second.size_px


def rms(values: Array) -> float:
    return math.sqrt(float(np.mean(values**2)))


def moved(coordinates_px: Array, matrix: Array) -> Array:
    """(14,), seven points, through a (3, 3) similarity."""
    return np.asarray((coordinates_px.reshape(7, 2) @ matrix[:2, :2].T + matrix[:2, 2]).ravel())


def scale_of(matrix: Array) -> float:
    return math.sqrt(abs(float(np.linalg.det(matrix[:2, :2]))))
