"""Every network sharded over two processes: whole, and child by child, which networks cannot be."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from closeness import relative_error
from forks import Fork
from networks import ALL, B, M, Network, matrix, moved
from torch import Tensor


def full(t: Tensor | None) -> Tensor | None:
    gather = getattr(t, "full_tensor", None)
    return t if gather is None else gather()


def check_whole(net: Network, y: Tensor, mesh: object) -> None:
    from torch.distributed.fsdp import fully_shard

    wanted = net(y)
    wanted.square().sum().backward()
    gradients = {name: p.grad for name, p in net.named_parameters()}
    net.zero_grad(set_to_none=True)
    fully_shard(net, mesh=mesh)  # type: ignore[call-overload]
    found = net(y)
    assert relative_error(found, wanted) <= 1e-5
    found.square().sum().backward()
    for name, p in net.named_parameters():
        grad, right = full(p.grad), gradients[name]
        assert (grad is None) == (right is None) or not (right if grad is None else grad).any(), name
        if grad is not None and right is not None:
            assert relative_error(grad, right) <= 1e-4, name


def check_children(net: Network, y: Tensor, mesh: object) -> None:
    """A result, or one sentence: what is sharded is put together in the child's forward, which no network calls."""
    from torch.distributed.fsdp import fully_shard

    wanted = net(y)
    for child in net.children():
        fully_shard(child, mesh=mesh)  # type: ignore[call-overload]
    for recorded in (True, False):
        said = ""
        with torch.set_grad_enabled(recorded):
            try:
                assert relative_error(net(y), wanted) <= 1e-5
            except (TypeError, ValueError) as error:
                said = str(error)
        assert not said or ("shard" in said and "\n" not in said), said


CHECKS = {"whole": check_whole, "children": check_children}


def work(rank: int, folder: Path) -> None:
    """Writes what comes of each network; a crash leaves the name that it happened at."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    from torch.distributed.device_mesh import init_device_mesh

    mesh = init_device_mesh("cpu", (2,))
    for how, check in CHECKS.items():
        with (folder / f"{how} {rank}").open("w", buffering=1) as report:
            for name, build in ALL.items():
                torch.manual_seed(0)
                report.write(f"{name}: ")
                try:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        check(moved(build(matrix(dtype=torch.float32))), torch.randn(B, M), mesh)
                    report.write("right\n")
                except Exception as error:
                    report.write(f"{type(error).__name__} {' '.join(str(error).split())}\n")
    os._exit(0)  # the other process may be gone


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reports")
    processes = [Fork(folder, work, rank, folder) for rank in range(2)]
    try:
        for process in processes:
            process.communicate()
    finally:
        for process in processes:
            process.kill()
    return folder


@pytest.mark.parametrize("rank", range(2))
@pytest.mark.parametrize("how", CHECKS)
def test_sharded(how: str, rank: int, reports: Path) -> None:
    report = reports / f"{how} {rank}"
    said = report.read_text().splitlines() if report.exists() else []
    assert said == [f"{name}: right" for name in ALL]
