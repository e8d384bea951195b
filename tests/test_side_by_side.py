"""Promises of faces that are restored at once: the same results in the same order, and nothing else changes."""

import threading

import pytest
import torch
from torch import Tensor

from vidrestore.models.side_by_side import side_by_side


@pytest.fixture(autouse=True)
def _threads() -> object:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("num_faces", [1, 2, 3, 9])
@pytest.mark.parametrize("num_threads", [1, 2, 3, 4])
def test_every_face_comes_back_in_its_place(num_faces: int, num_threads: int) -> None:
    torch.set_num_threads(num_threads)
    faces = torch.rand(num_faces, 3, 8, 8)
    torch.testing.assert_close(side_by_side(lambda face: face * 2, faces), faces * 2, atol=0, rtol=0)
    assert torch.get_num_threads() == num_threads


def test_two_faces_are_at_work_at_once_each_with_half_of_the_threads() -> None:
    """Each waits for the other to be there: one after the other they would wait for ever."""
    torch.set_num_threads(4)
    both = threading.Barrier(2, timeout=60)

    def run(face: Tensor) -> Tensor:
        both.wait()
        torch.ones(2**20).add_(1)  # PyTorch spreads it over threads, and might ask anew how many it has
        return face + torch.get_num_threads()

    assert side_by_side(run, torch.zeros(2, 1)).tolist() == [[2], [2]]


def test_what_goes_wrong_with_a_face_is_told() -> None:
    torch.set_num_threads(2)

    def run(face: Tensor) -> Tensor:
        raise RuntimeError("not enough memory")

    with pytest.raises(RuntimeError, match="not enough memory"):
        side_by_side(run, torch.zeros(3, 1))


def test_whoever_hears_of_a_failure_has_the_memory_of_all_faces_back() -> None:
    """Out of memory, fewer faces are tried at once; others that still ran would hold on to theirs."""
    torch.set_num_threads(3)
    done = []
    both = threading.Barrier(2, timeout=60)

    def run(face: Tensor) -> Tensor:
        if face.item() == 0:
            both.wait()
            raise MemoryError
        if face.item() == 1:
            both.wait()
            torch.randn(2**22).sort()  # still at work when the other has failed
        done.append(int(face.item()))
        return face

    with pytest.raises(MemoryError):
        side_by_side(run, torch.arange(3.0)[:, None])
    assert sorted(done) == [1, 2]


def test_inference_stays_inference_in_every_thread() -> None:
    torch.set_num_threads(2)
    with torch.inference_mode():
        assert side_by_side(lambda face: face * 1, torch.zeros(2, 1)).is_inference()
