"""The metrics room: what a restoration did to faces over time, measured, and a page that shows it.

Nothing outside it imports it, but for doors in `cli.py` and `pipeline.py`; it never imports the training room. The
measures are plain functions of arrays: `warping.py`, `landmarks.py`, `sharpness.py`, `identity.py`.
"""
