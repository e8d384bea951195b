"""Networks and weights. Knows torch; knows no video and no stage."""
