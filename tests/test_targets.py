"""An output is never one of the files that are read, nor another output, by whatever name."""

from pathlib import Path

import pytest

from tests.clips import CLIPS
from tests.scans import make_images
from vidrestore.errors import TargetError
from vidrestore.options import Options
from vidrestore.pipeline import analyze_video, restore_video
from vidrestore.targets import check_outputs


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return CLIPS["silent"].make(tmp_path)


def test_a_faces_file_that_was_edited_is_not_replaced_by_the_run_that_reads_it(source: Path, tmp_path: Path) -> None:
    edited = tmp_path / "faces.json"
    edited.write_text("edited")
    (tmp_path / "link.json").symlink_to(edited)
    for given, written in ((edited, edited), (tmp_path / "link.json", edited), (edited, tmp_path / "link.json")):
        for overwrite in (False, True):
            options = Options(from_faces=given, faces=written, overwrite=overwrite)
            with pytest.raises(TargetError, match=r"\.json: is the faces file that is read itself; choose another"):
                restore_video(source, tmp_path / "out.mp4", options)
    assert edited.read_text() == "edited"


def test_no_model_is_replaced_by_an_output(source: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.mp4"
    own.write_bytes(b"weights")
    with pytest.raises(TargetError, match=r"own\.mp4: is the model itself"):
        restore_video(source, own, Options(model=str(own), overwrite=True))
    with pytest.raises(TargetError, match=r"own\.mp4: is the detector itself"):
        restore_video(source, tmp_path / "out.mp4", Options(detector=str(own), compare=own, overwrite=True))
    with pytest.raises(TargetError, match=r"own\.mp4: is the detector itself"):
        analyze_video(source, own, Options(detector=str(own), overwrite=True))


def test_no_image_of_the_source_is_replaced_by_another_output(tmp_path: Path) -> None:
    images = make_images(tmp_path / "scans", count=3)
    options = Options(faces=images / "frame_000102.png", overwrite=True)
    with pytest.raises(TargetError, match=r"frame_000102\.png: is an image of the source itself"):
        restore_video(images, f"{tmp_path}/out/", options)


@pytest.mark.parametrize("other", ["out.mp4", "sub/../out.mp4", "link/out.mp4"])
def test_two_outputs_of_one_name_are_refused_however_it_is_spelled(source: Path, tmp_path: Path, other: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to(tmp_path)
    for options in (Options(compare=tmp_path / other), Options(faces=tmp_path / other)):
        with pytest.raises(TargetError, match="two outputs have the same name"):
            check_outputs(tmp_path / "out.mp4", options, source=source)
    check_outputs(tmp_path / "out.mp4", Options(compare=tmp_path / "sub" / "out.mp4"), source=source)


def test_no_output_lies_where_the_folder_of_the_images_is(source: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "out")
    with pytest.raises(TargetError, match="two outputs have the same name"):
        check_outputs(tmp_path / "out" / "%d.png", Options(faces=tmp_path / "out"), source=source)
    (tmp_path / "out").mkdir()
    with pytest.raises(TargetError, match="lies in the folder of the images"):
        check_outputs(tmp_path / "out" / "%d.png", Options(faces=tmp_path / "link" / "faces.json"), source=source)
