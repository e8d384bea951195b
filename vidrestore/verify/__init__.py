"""The room of `--verify`: a finished output is read back and compared with its source before it gets its place.

Nothing of the writer is used to judge the writer: both files are opened anew, and what the output must hold is worked
out from the source once more. What the writer has announced as lost, in its warnings, is no difference. `output.py`
begins; `pictures.py`, `samples.py` and `tracks.py` compare, by the two clocks of `clock.py`.
"""
