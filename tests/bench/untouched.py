"""Is everything but the faces as it was? python tests/bench/untouched.py SOURCE RESTORED FACES.json

For a lossless output: compares frame count, pts, colour tags, audio and subtitle packets, and every sample outside the
crop squares that the faces file lists. Exits with 1 when something differs.
"""

import json
import sys
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from vidrestore.frame import Frame
from vidrestore.video.read import VideoReader


def packets_beside_the_picture(path: Path) -> list[tuple[int, object, object, object, bytes]]:
    with av.open(str(path)) as container:
        return [
            (packet.stream.index, packet.pts, packet.dts, packet.time_base, bytes(packet))
            for packet in container.demux()
            if packet.stream.type != "video" and packet.dts is not None
        ]


def outside_squares(frame: Frame, faces: list[dict[str, object]], plane: int) -> NDArray[np.bool_]:
    """Mask of the samples of one plane whose centre lies in no crop square."""
    height, width = frame.planes[plane].shape
    step_x, step_y = round(frame.width_px / width), round(frame.height_px / height)
    x = np.arange(width)[None] * step_x  # chroma is sited left: on the even columns
    y = np.arange(height)[:, None] * step_y + (step_y - 1) / 2
    outside = np.ones((height, width), bool)
    for face in faces:
        if not face["restored"]:
            continue
        corners = np.array(face["crop_corners_px"])
        inside = np.ones((height, width), bool)
        for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            inside &= (b - a)[0] * (y - a[1]) - (b - a)[1] * (x - a[0]) >= 0
        outside &= ~inside
    return outside


def main(source: Path, restored: Path, faces_path: Path) -> int:
    listed = json.loads(faces_path.read_text())["frames"]
    num_frames = num_samples = num_different = 0
    with VideoReader(source) as before, VideoReader(restored) as after:
        same_tags = before.info.color == after.info.color and before.info.layout == after.info.layout
        for one, other, entry in zip(before.frames(), after.frames(), listed, strict=True):
            assert one.pts * one.time_base == other.pts * other.time_base, f"frame {one.index} has another time"
            for plane, (kept, changed) in enumerate(zip(one.planes, other.planes, strict=True)):
                outside = outside_squares(one, entry["faces"], plane)
                num_samples += int(outside.sum())
                num_different += int((kept[outside] != changed[outside]).sum())
            num_frames += 1
    same_packets = packets_beside_the_picture(source) == packets_beside_the_picture(restored)
    print(
        f"{source.name}: {num_frames} frames, times equal; colour tags {'equal' if same_tags else 'DIFFER'}; "
        f"audio packets {'equal' if same_packets else 'DIFFER'}; "
        f"{num_different} of {num_samples} samples outside the crop squares differ"
    )
    return int(num_different > 0 or not same_packets or not same_tags)


if __name__ == "__main__":
    sys.exit(main(*(Path(argument) for argument in sys.argv[1:4])))
