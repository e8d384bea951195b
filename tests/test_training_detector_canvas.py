"""Faces pasted into scenes lie where their labels say, turned, mirrored or one before the other."""

import cv2
import numpy as np
import pytest

from tests.drawn_faces import BOX, POINTS, drawn_face, drawn_portrait
from vidrestore.training import detector_canvas
from vidrestore.training.detector_canvas import Canvas, turn_head
from vidrestore.training.detector_pictures import face_side_px


@pytest.mark.parametrize(("side_px", "angle_deg"), [(20.0, 0.0), (47.0, 25.0), (120.0, -30.0)])
def test_a_pasted_face_lies_where_its_label_says(
    side_px: float, angle_deg: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Landmarks hit the green dots (mirrored or not), the box has the asked side within 2%."""
    monkeypatch.setattr(detector_canvas, "TURNED_SHARE", 0.0)
    face = drawn_portrait()
    for seed in range(4):
        canvas = Canvas(np.zeros((200, 200, 3), np.uint8))
        canvas.paste(face, np.array([100.0, 110.0]), side_px, angle_deg, "rect", np.random.default_rng(seed))
        scene = canvas.scene()
        assert face_side_px(scene.boxes[0]) == pytest.approx(side_px, rel=0.02)
        greenness = scene.image[:, :, 1].astype(float) - scene.image[:, :, [0, 2]].mean(axis=2)
        for x, y in scene.landmarks[0]:
            around = greenness[round(y) - 2 : round(y) + 3, round(x) - 2 : round(x) + 3]
            assert around.max() > np.percentile(greenness, 95) + 10
        left_eye, right_eye = scene.landmarks[0][:2]
        assert left_eye[0] < right_eye[0], "left stays the viewer's left, also when mirrored"


@pytest.mark.parametrize("yaw_deg", [-50.0, -20.0, 20.0, 50.0])
def test_a_turned_head_carries_its_landmarks_along(yaw_deg: float) -> None:
    """The nose goes to the side the head is turned to, each landmark still sits on its green dot (2 px)."""
    wide = cv2.copyMakeBorder(drawn_face(), 0, 0, 60, 60, cv2.BORDER_REPLICATE)
    box, points = BOX + np.float32([60, 0, 60, 0]), POINTS + np.float32([60, 0])
    image, turned_box, moved = turn_head(np.asarray(wide, np.uint8), box, points, yaw_deg)
    assert np.sign(moved[2, 0] - moved[:2, 0].mean()) == np.sign(yaw_deg)
    assert turned_box[2] - turned_box[0] < box[2] - box[0]
    greenness = image[:, :, 1].astype(float) - image[:, :, [0, 2]].mean(axis=2)
    far_eye = 1 if yaw_deg > 0 else 0
    for index, (x, y) in enumerate(moved):
        if index == far_eye and abs(yaw_deg) > 45:
            continue  # may be hidden behind the nose
        around = greenness[round(y) - 2 : round(y) + 3, round(x) - 2 : round(x) + 3]
        assert around.max() > 60


def test_hidden_faces_are_not_asked_for() -> None:
    """A second face pasted over the first leaves one label; a decoy leaves none."""
    face = drawn_portrait()
    rng = np.random.default_rng(0)
    canvas = Canvas(np.zeros((200, 200, 3), np.uint8))
    canvas.paste(face, np.array([100.0, 100.0]), 50, 0, "head", rng)
    canvas.paste(face, np.array([110.0, 100.0]), 60, 0, "head", rng)
    canvas.paste(face, np.array([30.0, 40.0]), 30, 0, "head", rng, decoy=drawn_face())
    scene = canvas.scene()
    assert len(scene.boxes) == 1
    assert face_side_px(scene.boxes[0]) == pytest.approx(60, rel=0.05)
