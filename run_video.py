"""`python run_video.py INPUT ...` is `vidrestore restore INPUT ...`."""

import sys

from vidrestore.cli import main

if __name__ == "__main__":
    main(["restore", *sys.argv[1:]])
