"""Every choice is spelled once, checked before any work, and a wrong one says what is allowed."""

import json
import os
from dataclasses import fields
from pathlib import Path

import pytest

from vidrestore.errors import OptionsError
from vidrestore.options import Options

CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"strength": 1.5}, "strength is 1.5; it must be a number from 0 to 1"),
        ({"strength": float("nan")}, "strength is nan"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": True}, "batch_size is True; it must be a whole number"),
        ({"dtype": "int8"}, "one of auto, float32, bfloat16, float16"),
        ({"device": "tpu"}, "it must be auto, cpu, cuda or cuda:N"),
        ({"lossless": "yes"}, "true or false"),
        ({"start": "soon"}, "seconds or hh:mm:ss"),
        ({"lossless": True, "crf": 20}, "crf is 20, but lossless has no quality to choose"),
        ({"quality": "best"}, "it must be one of archive, master, share"),
        ({"quality": "share", "crf": 20}, "quality is share, and crf asks for another; leave one out"),
        ({"quality": "share", "lossless": True}, "quality is share, and lossless asks for another"),
        ({"stream": 1, "report": "page.html"}, "stream is 1, but report measures the first video stream"),
        ({"tracks": "1;4", "from_faces": "f.json"}, "it must be track numbers with commas between, such as 1,4"),
        ({"tracks": "1,4"}, "only a file has track numbers; give it with from_faces"),
        ({"start": 5, "end": 4}, r"end \(4 s\) is not after start \(5 s\)"),
        ({"sharpness": 3}, "unknown option 'sharpness'; the options are model"),
    ],
)
def test_a_wrong_value_stops_the_run_and_names_what_is_allowed(values: dict[str, object], message: str) -> None:
    with pytest.raises(OptionsError, match=message) as caught:
        Options().changed(values, origin="flags")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("flags: ")


@pytest.mark.parametrize(
    ("text", "seconds"), [("12.5", 12.5), ("1:02.5", 62.5), ("01:02:03", 3723.0), (7, 7.0), (0.25, 0.25)]
)
def test_times_are_seconds_or_hours_minutes_seconds(text: object, seconds: float) -> None:
    assert Options(start=text).start == seconds  # type: ignore[arg-type]


def test_a_flag_wins_over_the_config_file_and_that_over_the_default(tmp_path: Path) -> None:
    config = tmp_path / "mine.toml"
    config.write_text('strength = 0.5\nmin-face-px = 40\nfaces = "found.json"\n')
    options = Options.from_toml(config).changed({"strength": 0.8}, origin="flags")
    assert (options.strength, options.min_face_px, options.crf) == (0.8, 40.0, None)
    assert options.faces == Path("found.json")


def test_a_toml_time_is_hours_minutes_seconds(tmp_path: Path) -> None:
    config = tmp_path / "mine.toml"
    config.write_text("start = 00:01:02.500\n")
    assert Options.from_toml(config).start == 62.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("strength = ", "not valid TOML"),
        ("strenght = 1", "unknown option 'strenght'"),
        ("crf = 'low'", "crf is 'low'"),
        pytest.param(f"crf = {'9' * 5000}", "not valid TOML", id="a number of 5000 digits"),
        pytest.param(f"tracks = {'[' * 5000}", "not valid TOML", id="brackets without end"),
    ],
)
def test_a_wrong_config_file_is_named_in_the_message(tmp_path: Path, text: str, message: str) -> None:
    config = tmp_path / "mine.toml"
    config.write_text(text)
    with pytest.raises(OptionsError, match=message) as caught:
        Options.from_toml(config)
    assert str(config) in str(caught.value)


@pytest.mark.skipif(os.name == "nt", reason="no such files")
def test_a_config_that_waits_for_ever_or_has_no_end_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(OptionsError, match=f"^{path}: is no regular file; save what it brings to a file first"):
            Options.from_toml(path)


def test_a_config_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    """Notepad saves one."""
    config = tmp_path / "mine.toml"
    config.write_bytes(b"\xef\xbb\xbfstrength = 0.5\n")
    assert Options.from_toml(config).strength == 0.5


@pytest.mark.parametrize("name", ["default", "archival", "call"])
def test_the_shipped_configs_are_valid_and_hold_only_what_differs(name: str) -> None:
    options = Options.from_toml(CONFIGS / f"{name}.toml")
    assert (options == Options()) == (name == "default")


def test_tracks_are_numbers_with_commas_between() -> None:
    assert Options(tracks="1, 4", from_faces="f.json").track_ids == {1, 4}  # type: ignore[arg-type]
    assert Options().track_ids is None
    with pytest.raises(OptionsError, match="it must be track numbers"):  # and not Python's limit on digits
        Options(tracks=f"1,{'9' * 5000}", from_faces="f.json")  # type: ignore[arg-type]


WRONG_VALUES: tuple[object, ...] = ("", "nonsense", -1, 10**9, 0.5, float("inf"), True, [], [1, 2], {}, {"a": 1})


@pytest.mark.parametrize("name", [spec.name for spec in fields(Options)])
def test_a_config_of_wrong_types_is_one_line_that_names_file_and_option(name: str, tmp_path: Path) -> None:
    config = tmp_path / "mine.toml"
    refusals = []
    for value in WRONG_VALUES:
        shown = {True: "true", float("inf"): "inf"}.get(value) if isinstance(value, (bool, float)) else None
        shown = shown or ("{ a = 1 }" if value == {"a": 1} else json.dumps(value))
        config.write_text(f"{name} = {shown}\n")
        try:
            Options.from_toml(config)
        except OptionsError as exc:
            refusals.append(str(exc))
    assert len(refusals) >= 4  # lists and tables fit nowhere
    assert all(line.startswith(f"{config}: {name} is ") and "\n" not in line for line in refusals)
