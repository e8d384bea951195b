"""Damaged files, and what becomes of them."""
