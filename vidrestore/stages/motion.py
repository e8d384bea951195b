"""How a face moves: a Kalman filter forward in time, and a Rauch-Tung-Striebel pass back over the frames that are held.

Every coordinate of a face (two corners of its box, five landmarks: 14 numbers) moves by the same model: position,
velocity and a random acceleration (Singer, "Estimating optimal tracking filter performance for manned maneuvering
targets", IEEE T-AES 1970), where velocity and acceleration fade, so that a face that is out of sight comes to rest
instead of flying off. Same model, same noise, so one 3 x 3 covariance serves all coordinates and the state is a (3, 14)
matrix. It is kept in units of face size, the state in pixels; no gain then depends on how large the face is.

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

from vidrestore.face import Detection

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


@dataclass(frozen=True, slots=True, eq=False)
class Measurement:
    """A detection as the filter takes it."""

    coordinates_px: Array
    """(14,) x1, y1, x2, y2 of the box, then x, y of each landmark."""
    size_px: float
    """Side of a square as large as the box."""
    variance: float
    """Of each coordinate, in face sizes."""

    @classmethod
    def of(cls, detection: Detection) -> "Measurement":
        coordinates_px = np.concatenate([detection.box_xyxy_px, detection.landmarks_px.ravel()]).astype(np.float64)
        width_px, height_px = coordinates_px[2:4] - coordinates_px[:2]
        size_px = float(np.sqrt(max(width_px, 1.0) * max(height_px, 1.0)))
        return cls(coordinates_px, size_px, (DETECTION_NOISE / max(detection.score, MIN_SCORE)) ** 2)


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
        self._begin(Measurement.of(detection))

    def advance(self, step_s: float) -> None:
        """Predict the face `step_s` later (0 or more) and hold the new frame."""
        step, noise = transition(min(max(step_s, 0.0), MAX_STEP_S))
        self._filter.predict(F=step, Q=noise)
        self._hold(step, noise)
        self._doubted_before, self._doubted = self._doubted, None

    def observe(self, detection: Detection) -> None:
        """Correct the newest frame by what was detected in it.

        A detection far from the prediction is left out as an outlier. When the next one is far off too, the face has
        really jumped: its motion begins anew, in the frame of the first of the two if they agree.
        """
        measured = Measurement.of(detection)
        if self._is_expected(measured):
            self._correct(measured)
        elif self._doubted_before is None:
            self._doubted = measured
        elif len(self._steps) > 1 and are_close(self._doubted_before, measured):
            newest = self._steps.pop()
            self._steps.pop()
            self._begin(self._doubted_before)
            self._filter.predict(F=newest.transition, Q=newest.process_noise)
            self._hold(newest.transition, newest.process_noise)
            self._correct(measured)
        else:
            self._steps.pop()
            self._begin(measured)

    @property
    def newest_box_xyxy_px(self) -> NDArray[np.float32]:
        """(4,), from this and earlier frames."""
        return self._steps[-1].state[0, :4].astype(np.float32)

    def oldest(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Box (4,) and landmarks (5, 2) in the oldest held frame, smoothed by all held frames."""
        states = np.stack([step.state for step in self._steps])  # (n, 3, 14)
        if len(states) > 1:
            covariances = np.stack([step.covariance for step in self._steps])
            transitions = [step.transition for step in self._steps]
            noises = [step.process_noise for step in self._steps]
            states = self._filter.rts_smoother(states, covariances, transitions, noises)[0]
        coordinates_px = states[0, 0].astype(np.float32)
        return coordinates_px[:4], coordinates_px[4:].reshape(5, 2)

    def drop_oldest(self) -> None:
        self._steps.popleft()

    def _begin(self, measured: Measurement) -> None:
        self._filter.x = np.zeros((3, measured.coordinates_px.size))
        self._filter.x[0] = measured.coordinates_px
        self._filter.P = START_COVARIANCE.copy()
        # A transition of zeros tells the backward pass that the frame before knows nothing of this one.
        self._hold(np.zeros((3, 3)), START_COVARIANCE)

    def _is_expected(self, measured: Measurement) -> bool:
        surprise = (measured.coordinates_px - self._filter.x[0]) / measured.size_px
        variance = float(self._filter.P[0, 0]) + measured.variance
        return rms(surprise) <= GATE_SIGMAS * math.sqrt(variance)

    def _correct(self, measured: Measurement) -> None:
        # H is given with the call because filterpy then takes z as it is, a row of coordinates, and not one number.
        self._filter.update(measured.coordinates_px[None, :], R=measured.variance, H=POSITION_ONLY)
        newest = self._steps.pop()
        self._hold(newest.transition, newest.process_noise)

    def _hold(self, transition_: Array, process_noise: Array) -> None:
        self._steps.append(Step(self._filter.x.copy(), self._filter.P.copy(), transition_, process_noise))


def are_close(first: Measurement, second: Measurement) -> bool:
    """Whether detections in neighbouring frames may be one face in one place."""
    apart_px = first.coordinates_px - second.coordinates_px
    return rms(apart_px) <= JUMP_AGREEMENT * second.size_px


def rms(values: Array) -> float:
    return math.sqrt(float(np.mean(values**2)))
