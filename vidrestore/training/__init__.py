"""The training room: how our own models are made. Nothing outside it imports it."""
