"""Fixtures for everyone, and the rules of the house: random state is given back, GPU tests skip politely."""

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

# The networks of the tests are tiny. On a busy machine, threads that wait for one another made a forward pass of 32 px
# take 12 s instead of 0.4. Set here because torch reads it when it is loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs_cuda: skipped without a GPU; FAIL_WITHOUT_CUDA=1 makes it fail instead")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("needs_cuda") is None:
        return
    import torch

    if not torch.cuda.is_available():
        if os.environ.get("FAIL_WITHOUT_CUDA"):
            pytest.fail("no CUDA device, and FAIL_WITHOUT_CUDA is set", pytrace=False)
        pytest.skip("no CUDA device")


@pytest.fixture(autouse=True)
def _random_state() -> Iterator[None]:
    """Give the global random states back as they were, so that no test depends on the ones before it."""
    python, numpy = random.getstate(), np.random.get_state()
    torch = sys.modules.get("torch")
    torch_state = torch.get_rng_state() if torch else None
    yield
    random.setstate(python)
    np.random.set_state(numpy)
    if torch and torch_state is not None:
        torch.set_rng_state(torch_state)


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator of its own for each test, always seeded alike."""
    return np.random.default_rng(20240501)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of development data beside the repository: clips, stills, golden values. Skips where it is absent."""
    folder = REPOSITORY.parent / "shared"
    if not (folder / "golden").is_dir():
        pytest.skip(f"the development data is not beside the repository ({folder})")
    return folder


@pytest.fixture
def weights_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty weights folder, in force for this test."""
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setenv("VIDRESTORE_WEIGHTS", str(folder))
    return folder
