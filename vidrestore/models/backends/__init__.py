"""Engines that run the networks, one file each, behind the protocols of `models/spec.py`."""
