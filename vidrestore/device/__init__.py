"""Aligning, restoring and pasting on the GPU, in batches; the same pictures as the stages of `stages/` give."""
