"""Promises of training in several processes."""

import os
import subprocess
import sys
from pathlib import Path

import torch

from tests.training_runs import ALONE, smooth_faces, two_process_config
from vidrestore.training.checkpoint import checkpoints
from vidrestore.training.train import train


def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    """torchrun with 2 processes on gloo, each with half of every batch of 4: within 1e-5 of one process's weights."""
    script = tmp_path / "two.py"
    script.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
        "from tests.training_runs import smooth_faces, two_process_config\n"
        "from vidrestore.training.ranks import first_alone, joined_ranks\n"
        "from vidrestore.training.train import train\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "with joined_ranks('cpu') as ranks:\n"
        "    assert ranks.num_ranks == 2\n"
        "    with first_alone(ranks):\n"
        "        assert ranks.is_first or (folder / 'seen').exists()\n"
        "        (folder / 'seen').touch()\n"
        "    train(two_process_config(), smooth_faces(), folder / 'two', ranks)\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=180, env=environment)
    assert result.returncode == 0, result.stderr[-2000:]
    one = train(two_process_config(), smooth_faces(), tmp_path / "one", ALONE)
    saved = torch.load(checkpoints(tmp_path / "two")[-1], weights_only=True)
    assert saved["steps_done"] == 4
    for key, value in one.net.state_dict().items():
        torch.testing.assert_close(saved["g"][key], value, atol=1e-5, rtol=1e-5, msg=key)
