"""The container and codec room. Knows av; knows no face, no torch, no cv2."""
