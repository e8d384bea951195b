"""Promises of CUDA graphs: the same answers as without them, whatever batches come, and no failure because of them."""

import logging

import pytest
import torch
from torch import Tensor
from torch.backends import cudnn

from vidrestore.models.backends import cuda_graphs
from vidrestore.models.backends.cuda_graphs import GraphedNet, Net, Recording, convolutions


class Recorder:
    """Records on a CPU: a replay computes at the recorded addresses. `sizes` is what was recorded, in order."""

    def __init__(self, error: RuntimeError | None = None) -> None:
        self.error = error
        self.sizes: list[int] = []
        self.num_replays = 0

    def __call__(self, net: Net, x: Tensor) -> Recording:
        if self.error is not None:
            raise self.error
        self.sizes.append(len(x))
        static = torch.full_like(x, torch.nan)
        outputs = tuple(torch.full_like(output, torch.nan) for output in net(x))

        def replay() -> None:
            self.num_replays += 1
            for output, value in zip(outputs, net(static), strict=True):
                output.copy_(value)

        return Recording(static, outputs, replay)


def doubled_and_sum(x: Tensor) -> tuple[Tensor, ...]:
    return 2 * x, x.sum()


def check(graphed: GraphedNet, sizes: list[int]) -> None:
    for number, size in enumerate(sizes):
        x = torch.rand(size, 3) + number
        for result, expected in zip(graphed(x), doubled_and_sum(x), strict=True):
            torch.testing.assert_close(result, expected, atol=0, rtol=0)


def test_batches_of_all_sizes_give_what_they_give_without_graphs() -> None:
    record = Recorder()
    check(GraphedNet(doubled_and_sum, record=record), [1, 2, 3, 1, 1, 9, 2, 3, 9, 9, 1])
    assert record.sizes == [1, 2, 3, 9]
    assert record.num_replays == 11 - 4


def test_a_size_that_comes_once_costs_no_recording() -> None:
    record = Recorder()
    check(GraphedNet(doubled_and_sum, record=record), [8, 8, 8, 5])
    assert record.sizes == [8]


def test_a_result_stays_when_the_next_batch_comes() -> None:
    graphed = GraphedNet(doubled_and_sum, record=Recorder())
    results = [graphed(torch.full((2, 3), float(number)))[0] for number in range(4)]
    assert [float(result[0, 0]) for result in results] == [0, 2, 4, 6]


def test_more_sizes_than_fit_go_on_unrecorded_instead_of_taking_turns() -> None:
    record = Recorder()
    check(GraphedNet(doubled_and_sum, record=record, max_graphs=2), [1, 1, 2, 2, 3, 4, 3, 4, 3, 4, 1, 2])
    assert record.sizes == [1, 2]
    assert record.num_replays == 4


def test_cudnn_times_its_algorithms_when_a_size_first_comes_and_never_for_sizes_without_a_graph() -> None:
    """What is chosen first for a shape is kept: guessed once, it would be recorded."""
    asked: list[tuple[int, bool]] = []

    def net(x: Tensor) -> tuple[Tensor, ...]:
        asked.append((len(x), cudnn.benchmark))
        return (x,)

    graphed = GraphedNet(net, record=Recorder(), max_graphs=1)
    with convolutions(benchmark=False):
        for size in (4, 4, 4, 9, 9, 9):
            graphed(torch.zeros(size, 3))
    first = dict(reversed(asked))
    assert first == {4: True, 9: False}
    assert [timed for size, timed in asked if size == 9] == [False] * 3
    assert not cudnn.benchmark


def test_without_memory_for_a_graph_faces_are_restored_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "vidrestore")
    graphed = GraphedNet(doubled_and_sum, record=Recorder(torch.OutOfMemoryError("CUDA out of memory.\nTried ...")))
    check(graphed, [4, 4, 4, 5, 5])
    assert [record.getMessage() for record in caplog.records] == [
        "no CUDA graph for batches of 4, so faces take a little longer: CUDA out of memory."
    ]


def test_an_error_of_the_network_itself_is_passed_on() -> None:
    def fails(x: Tensor) -> tuple[Tensor, ...]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    graphed = GraphedNet(fails, record=Recorder(torch.OutOfMemoryError("CUDA out of memory")))
    for _ in range(3):
        with pytest.raises(torch.OutOfMemoryError):
            graphed(torch.zeros(1, 3))


def test_memory_that_graphs_hold_is_given_back_for_good() -> None:
    record = Recorder()
    graphed = GraphedNet(doubled_and_sum, record=record)
    assert not GraphedNet(doubled_and_sum).forget()
    check(graphed, [2, 2])
    assert graphed.forget()
    assert not graphed.forget()
    check(graphed, [2, 2, 2])
    assert record.sizes == [2]


def test_float32_is_never_rounded_to_tensorfloat32_and_settings_come_back() -> None:
    before = cudnn.benchmark, cudnn.allow_tf32, cudnn.deterministic
    with convolutions(benchmark=True):
        assert (cudnn.benchmark, cudnn.allow_tf32) == (True, False)
        with convolutions(benchmark=False):
            assert (cudnn.benchmark, cudnn.allow_tf32) == (False, False)
        assert (cudnn.benchmark, cudnn.allow_tf32) == (True, False)
    assert (cudnn.benchmark, cudnn.allow_tf32, cudnn.deterministic) == before


@pytest.mark.parametrize("is_underway", [True, False])
def test_after_a_refused_capture_the_allocator_is_told_that_it_is_over(
    monkeypatch: pytest.MonkeyPatch, is_underway: bool
) -> None:
    """Or it would never again free memory that several streams share."""
    calls: list[str] = []

    def end(device_index: int, pool: object) -> None:
        if not is_underway:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")
        calls.append("end")

    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", end, raising=False)
    monkeypatch.setattr(
        torch._C, "_cuda_releasePool", lambda device_index, pool: calls.append("release"), raising=False
    )
    cuda_graphs.Recorder()._let_go(0)
    assert calls == (["end", "release"] if is_underway else [])


@pytest.mark.needs_cuda
@torch.inference_mode()
def test_a_recorded_network_gives_what_it_gives_unrecorded() -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), torch.nn.ReLU(), torch.nn.Conv2d(16, 3, 3)).cuda()
    graphed = GraphedNet(lambda x: (net(x),), max_graphs=3)
    for size in [1, 2, 3, 4, 5, 4, 3, 2, 1, 1, 2, 3, 3, 5, 5, 4]:
        x = torch.rand(size, 3, 32, 32, device="cuda")
        with convolutions(benchmark=False):
            torch.testing.assert_close(graphed(x)[0], net(x), atol=1e-5, rtol=0)
    assert graphed.max_graphs == 3  # no recording failed


@pytest.mark.needs_cuda
@torch.inference_mode()
def test_what_cannot_be_recorded_runs_unrecorded() -> None:
    graphed = GraphedNet(lambda x: (x + x.max().item(),))  # waits for the GPU
    x = torch.rand(4, 3, device="cuda")
    for _ in range(4):
        torch.testing.assert_close(graphed(x)[0], x + x.max())
    assert graphed.max_graphs == 0
