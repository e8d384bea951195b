"""The steps of a frame's journey, one module each: numpy and OpenCV only, no container, no network."""
