"""Several processes against one. Each takes seconds to start, so there are two groups, of two and of four, that try
everything and leave what came out in files. They meet in a file, and nothing listens beyond the loopback interface;
torchrun, which listens on all, runs in a network of its own, with no other."""

import copy
import dataclasses
import importlib.util
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from clbook import distributed, methods, models, training
from clbook.training import TrainConfig

pytestmark = [pytest.mark.slow, pytest.mark.skipif(
    sys.platform != "linux", reason="gloo, loopback's name and SIGKILL as Linux has them")]  # fmt: skip

EVENTS = {"tensorboard"} if importlib.util.find_spec("tensorboard") else set()
N = 8
CASES = {
    "simclr": lambda encoder: methods.SimCLR(encoder, out_dim=8),
    "moco": lambda encoder: methods.MoCo(encoder, out_dim=8, queue_size=12),
    "moco both ways": lambda encoder: methods.MoCo(encoder, out_dim=8, queue_size=20, symmetric=True),
    "sup_con": lambda encoder: methods.SupCon(encoder, out_dim=8),
    "triplet all": lambda encoder: methods.Triplet(encoder, out_dim=8, mining="all"),
    "triplet hard": lambda encoder: methods.Triplet(encoder, out_dim=8, mining="hard"),
    "triplet semi-hard": lambda encoder: methods.Triplet(encoder, out_dim=8, mining="semi-hard", margin=0.5),
}


def method_of(case):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return CASES[case](models.small(2)).double().train()


def batch():
    generator = torch.Generator().manual_seed(1)
    views = torch.rand(2, N, 3, 16, 16, generator=generator, dtype=torch.float64)
    return views, torch.tensor([0, 0, 1, 2, 1, 2, 0, 1])


def two_steps(case):
    """Loss and gradient at two places, and all that a method keeps afterwards; on this process's share of the batch."""
    method, (views, labels), found = method_of(case), batch(), []
    distributed.replicate(method)
    views, labels = tuple(distributed.share(view) for view in views), distributed.share(labels)
    for _ in range(2):
        method.zero_grad()
        loss = method.loss(views, labels) if getattr(method, "supervised", False) else method.loss(views)
        loss.backward()
        distributed.average_gradients(method.parameters())
        found.append((loss.detach(), {name: p.grad.clone() for name, p in method.named_parameters()}))
        with torch.no_grad():
            for p in method.parameters():
                p -= 0.1 * p.grad
        method.after_step()
    return {"steps": found, "state": copy.deepcopy(method.state_dict())}


class Called(nn.Module):
    """What DistributedDataParallel can call."""

    def __init__(self, method):
        super().__init__()
        self.method = method

    def forward(self, *views):
        return self.method.loss(views)


def under_ddp():
    method, (views, _) = method_of("simclr"), batch()
    distributed.replicate(method)
    model = nn.parallel.DistributedDataParallel(Called(method))
    loss = model(*(distributed.share(view) for view in views))
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in method.named_parameters()}


# --- what the processes do ------------------------------------------------------------------------------------


def gathered():
    """f = sum over all rows of (rank + 1) * row^2: each rank weighs all rows by its own number."""
    x = (torch.arange(6.0).reshape(2, 3) + 10 * distributed.rank()).requires_grad_()
    everything = distributed.gather(x)
    ((distributed.rank() + 1) * everything.square()).sum().backward()
    numbers = distributed.gather(torch.tensor([distributed.rank()]))
    flags = distributed.any_rank(distributed.rank() == 1, False)
    return {"all": everything.detach(), "grad": x.grad, "numbers": numbers, "flags": flags,
            "clock": distributed.writers(0.1 + distributed.rank()),
            "half": distributed.gather(torch.ones(1, 2, dtype=torch.bfloat16))}  # fmt: skip


def trained(method, **changes):
    """Some steps of `fit` with views that are the same for any number of processes; MoCo's queue wraps."""
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(24, 3, 16, 16, generator=generator)
    config = TrainConfig(n=24, width=2, image_size=16, batch_size=N, method=method, steps=4, queue_size=20,
                         learning_rate=1e-3, device="cpu", precision="fp32", evaluations=1, **changes)  # fmt: skip
    rows = []
    fit = training.fit(images, config, views=lambda batch, _: (batch, batch.flip(-1)), on_row=rows.append,
                       labels=torch.arange(24) % 3)  # fmt: skip
    return {"state": fit.method.state_dict(), "history": fit.history, "rows": len(rows)}


def whole_runs(folder):
    """A run, the same stopped by a signal to the last process and continued, and what the others mustn't do."""
    from clbook import evaluation, plots, runs  # not all processes need them

    if not distributed.is_writer():
        evaluation.knn_score = runs.RunFolder.__init__ = runs.RunFolder.write = forbidden
        runs.RunFolder.add_metrics = forbidden
    plots.tsne = lambda features: np.zeros((len(features), 2))  # it takes seconds
    config = small_run(folder)
    line, interrupted = runs.train(config, folder / "undisturbed")
    assert bool(line) is distributed.is_writer() and not interrupted
    true_step = runs._Keeper.after_step

    def after_step(keeper, state):
        keeper.steps = getattr(keeper, "steps", 0) + 1
        if keeper.steps == 5 and distributed.rank() == 1:
            signal.raise_signal(signal.SIGTERM)
        return true_step(keeper, state)

    runs._Keeper.after_step = after_step
    _, interrupted = runs.train(config, folder / "stopped")
    runs._Keeper.after_step = true_step
    if distributed.is_writer():
        (folder / "kept.pt").write_bytes((folder / "stopped" / "checkpoint.pt").read_bytes())
    runs.resume(folder / "stopped")
    return interrupted


def forbidden(*args, **kwargs):
    raise AssertionError("only rank 0 evaluates and writes")


def small_run(folder):
    return TrainConfig(data=f"folder:{folder / 'pictures'}", image_size=16, width=4, batch_size=8, steps=12,
                       evaluations=2, method="moco", queue_size=20, device="cpu", precision="fp32")  # fmt: skip


def silence(folder):
    """The last process says nothing; the first gives it up."""
    start = time.monotonic()
    if distributed.is_writer():
        with pytest.raises(ConnectionError) as caught:
            distributed.gather(torch.ones(1))
        (folder / "given up").touch()
        return str(caught.value), time.monotonic() - start
    while not (folder / "given up").exists() and time.monotonic() - start < 60:
        time.sleep(0.1)
    return None


def death():
    """The last process is killed in the midst of training."""

    def killed(state):
        if distributed.rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    images = torch.rand(24, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    config = TrainConfig(n=24, width=2, image_size=16, batch_size=N, steps=9, device="cpu", precision="fp32")
    start = time.monotonic()
    with pytest.raises(ConnectionError) as caught:
        training.fit(images, config, on_step=killed)
    return str(caught.value), time.monotonic() - start


def work(folder, rank, size):
    torch.set_num_threads(1)
    found = {}
    with distributed.group(rank, size, folder / "meet", minutes=5):
        found["gathered"] = gathered()
        found["ranks"] = distributed.rank(), distributed.world_size(), distributed.is_writer()
        found["cases"] = {case: two_steps(case) for case in CASES}
        if size == 2:
            found["ddp"] = under_ddp()
            found["trained"] = {method: trained(method) for method in training.METHODS}
            found["minutes"] = training.fit(torch.rand(24, 3, 16, 16), TrainConfig(
                width=2, image_size=16, batch_size=N, minutes=0.005, device="cpu", precision="fp32", n=24
                )).method.state_dict()  # fmt: skip
            found["interrupted"] = whole_runs(folder)
            with pytest.raises(ValueError, match=r"batch_size: expected a multiple of 2, .* got 7"):
                training.check(torch.rand(24, 3, 16, 16), TrainConfig(batch_size=7))
        distributed.any_rank(False)  # rank 0 had more to do: the next group waits for seconds only
        found["threads"] = [gloo_threads()]
    found["threads"].append(gloo_threads())
    if size == 2:
        with distributed.group(rank, size, folder / "meet for silence", minutes=10 / 60):
            found["silence"] = silence(folder)
        torch.save(found, folder / f"{rank}.pt")
        with distributed.group(rank, size, folder / "meet for death", minutes=5):
            found["death"] = death()
    torch.save(found, folder / f"{rank}.pt")


def gloo_threads():
    """Where the system tells."""
    return [name for path in Path("/proc/self/task").glob("*/comm") if "gloo" in (name := path.read_text())]


def draw(folder):
    generator = np.random.RandomState(0)
    for i in range(60):
        path = folder / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        color = np.array([200, 60, 60] if i % 2 else [60, 60, 200])
        Image.fromarray((color + generator.randint(0, 50, (16, 16, 3))).astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """Folder and processes by size of the group; they start together, for that takes the time."""
    groups = {}
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    for size in (2, 4):
        folder = tmp_path_factory.mktemp(f"José's group of {size}")
        draw(folder / "pictures") if size == 2 else None
        groups[size] = folder, [
            subprocess.Popen([sys.executable, __file__, str(folder), str(rank), str(size)], env=environment,
                             stderr=subprocess.PIPE, text=True) for rank in range(size)]  # fmt: skip
    yield groups
    for _, processes in groups.values():
        for process in processes:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def ended(started):
    """Folder, exit codes, what stood on stderr, what was found, each by rank; by size of the group."""
    return {size: collect(folder, processes) for size, (folder, processes) in started.items()}


def collect(folder, processes):
    said = [process.communicate(timeout=300)[1] for process in processes]
    found = []
    for rank, text in enumerate(said):
        assert (folder / f"{rank}.pt").exists(), text
        found.append(torch.load(folder / f"{rank}.pt", weights_only=True))
    return folder, [process.returncode for process in processes], said, found


# --- what must have come out -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 4])
def test_gather_brings_all_rows_and_sums_their_gradients(ended, size):
    for rank, found in enumerate(ended[size][3]):
        assert found["ranks"] == (rank, size, rank == 0)
        rows = torch.cat([torch.arange(6.0).reshape(2, 3) + 10 * r for r in range(size)])
        assert torch.equal(found["gathered"]["all"], rows)
        assert torch.equal(found["gathered"]["grad"], sum(range(1, size + 1)) * 2 * rows[2 * rank : 2 * rank + 2])
        assert found["gathered"]["numbers"].tolist() == list(range(size))
        assert found["gathered"]["flags"] == [True, False]
        assert found["gathered"]["clock"] == 0.1
        assert torch.equal(found["gathered"]["half"], torch.ones(size, 2, dtype=torch.bfloat16))


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("case", CASES)
def test_several_processes_are_one_on_the_joined_batch(ended, case, size):
    """With ordinary batch-norm, and no group at all, on the other side."""
    one, ranks = two_steps(case), [found["cases"][case] for found in ended[size][3]]
    for step, (loss, gradients) in enumerate(one["steps"]):
        assert loss > 0 and all(g.abs().sum() > 0 for g in gradients.values())
        mean = torch.stack([rank["steps"][step][0] for rank in ranks]).mean()
        torch.testing.assert_close(mean, loss, rtol=1e-9, atol=1e-12)
        for rank in ranks:
            torch.testing.assert_close(rank["steps"][step][1], gradients, rtol=1e-7, atol=1e-10)
    for rank in ranks:
        # The queue's rows, batch-norm's statistics and the momentum encoder's weights among them.
        torch.testing.assert_close(dict(rank["state"]), dict(one["state"]), rtol=1e-7, atol=1e-10)
        assert all(torch.equal(rank["state"][name], value) for name, value in ranks[0]["state"].items())


def test_the_mean_of_distributed_data_parallel_gives_the_same_gradient(ended):
    loss, gradients = two_steps("simclr")["steps"][0]
    for found in ended[2][3]:
        torch.testing.assert_close(found["ddp"][0], loss, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(found["ddp"][1], gradients, rtol=1e-7, atol=1e-10)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs a system that tells a process's threads")
@pytest.mark.parametrize("size", [2, 4])
def test_no_thread_outlives_its_group(ended, size):
    for found in ended[size][3]:
        within, after = found["threads"]
        assert len(within) >= 3 and after == []


def test_ranks_see_what_no_rank_sees_alone():
    """Else the tests above could not fail: the loss of the joined batch isn't the mean of the parts' losses."""
    method, (views, _) = method_of("simclr"), batch()
    with torch.no_grad():
        parts = [method.loss(tuple(part)) for part in views.chunk(2, dim=1)]
    assert abs(sum(parts) / 2 - two_steps("simclr")["steps"][0][0]) > 0.1


@pytest.mark.parametrize("method", training.METHODS)
def test_training_stays_the_same_on_all_ranks_and_follows_that_of_one(ended, method):
    one, ranks = trained(method), [found["trained"][method] for found in ended[2][3]]
    for name, value in ranks[0]["state"].items():
        assert torch.equal(ranks[1]["state"][name], value), name  # the queue and its place among them
    assert [rank["rows"] for rank in ranks] == [one["rows"], 0]  # one writer
    for rank in ranks:
        assert [row["step"] for row in rank["history"]] == [row["step"] for row in one["history"]] == [0, 4]
        assert rank["history"][-1]["loss"] == pytest.approx(one["history"][-1]["loss"], rel=1e-4)
    torch.testing.assert_close(dict(ranks[0]["state"]), dict(one["state"]), rtol=1e-2, atol=2e-3)


def test_minutes_are_those_of_one_clock(ended):
    """Learning rates by two clocks would take the weights apart, and one rank might wait for ever for the other."""
    one, two = (found["minutes"] for found in ended[2][3])
    assert all(torch.equal(two[name], value) for name, value in one.items())


def test_a_run_has_one_writer_and_goes_on_to_the_same_end(ended):
    folder, _, said, found = ended[2]
    assert [rank["interrupted"] for rank in found] == [True, True]
    assert "it/s" in said[0] or "%" in said[0]
    assert "%" not in said[1] and "Traceback" not in said[1]  # no progress; of warnings gloo is the judge
    files = {"config.json", "metrics.csv", "encoder.pt", "curves.png", "tsne.png", "summary.txt", "neighbours.png",
             "environment.json", "report.html"} | EVENTS  # fmt: skip
    assert {path.name for path in (folder / "undisturbed").iterdir()} == files
    assert {path.name for path in (folder / "stopped").iterdir()} == files
    one, two = (torch.load(folder / name / "encoder.pt", weights_only=True) for name in ("undisturbed", "stopped"))
    assert all(torch.equal(two[name], value) for name, value in one.items())
    rows = [re.sub(r"(?m)^(\d+,[^,]*),[^,]*", r"\1", (folder / name / "metrics.csv").read_text())
            for name in ("undisturbed", "stopped")]  # fmt: skip
    assert rows[0] == rows[1] and rows[0].count("\n") == 5
    assert one.keys() == training.new_encoder(small_run(folder)).state_dict().keys()


def test_a_checkpoint_holds_every_ranks_views_and_wants_as_many_processes(ended, monkeypatch):
    from clbook import runs

    folder = ended[2][0]
    state = torch.load(folder / "kept.pt", weights_only=True)
    assert state["log"]["count"] == 5
    one, two = state["random"]["views"].chunk(2)
    assert not torch.equal(one, two)
    config = small_run(folder)
    with pytest.raises(ValueError, match=r"expected that of a run on 1 process\(es\), got one on 2; .*per-node 2"):
        training.fit(runs.load_splits(config)["train"].images, config, state=state)


@pytest.mark.parametrize(("what", "within"), [("silence", 60), ("death", 60)])
def test_a_lost_rank_ends_the_run_with_a_message(ended, what, within):
    _, codes, _, (found, _) = ended[2]
    message, seconds = found[what]
    assert re.match(r"rank 0: expected all processes of the run to go on, one is gone or silent \(.+\)", message)
    assert seconds < within
    assert codes == [0, -signal.SIGKILL]


def test_four_processes_end_well(ended):
    assert ended[4][1] == [0] * 4


# --- without a group -------------------------------------------------------------------------------------------


def test_without_a_group_nothing_changes():
    rows = torch.rand(3, 2, requires_grad=True)
    assert distributed.gather(rows) is rows and distributed.share(rows) is rows
    assert (distributed.rank(), distributed.world_size(), distributed.is_writer()) == (0, 1, True)
    assert distributed.any_rank(True, False) == [True, False] and distributed.writers(0.3) == 0.3
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    distributed.replicate(model)
    assert type(model[1]) is nn.BatchNorm1d
    model(rows).square().sum().backward()
    before = model[0].weight.grad.clone()
    distributed.average_gradients(model.parameters())
    assert torch.equal(model[0].weight.grad, before)
    with distributed.writer_first():
        pass


@pytest.mark.parametrize("environment", [{}, {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "x", "MASTER_PORT": "1"}])
def test_one_process_makes_no_group(environment, monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with distributed.group():
        assert not torch.distributed.is_initialized()


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 5), (6, 4, 5, 3)])
@pytest.mark.parametrize("options", [{}, {"affine": False}, {"momentum": None}, {"track_running_stats": False}])
def test_batch_norm_of_one_rank_is_torchs(shape, options):
    """Value, gradients and running statistics; of several ranks: the test of the joined batch, above."""
    x = torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3 + 5
    kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[len(shape)]
    results = []
    for norm in (kind(4, **options).double(), distributed.SyncBatchNorm(4, **options).double()):
        inputs, y = x.clone().requires_grad_(), None
        for _ in range(2):
            y = norm(inputs)
        (y.sin() * torch.arange(y.numel()).view(shape)).sum().backward()
        results.append([y, inputs.grad, dict(norm.state_dict()), norm.eval()(x)])
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-9)


def test_batch_norm_keeps_half_precision_and_computes_in_full():
    x = (1000 + torch.rand(64, 4, generator=torch.Generator().manual_seed(0))).to(torch.bfloat16)
    y = distributed.SyncBatchNorm(4)(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, nn.BatchNorm1d(4)(x.float()).to(torch.bfloat16), rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [((0, 2), "expected rank, world_size and file, or none"), ((None, None, "x"), "or none of them"),
     ((2, 2, "x"), "rank: expected an integer from 0 .* got 2 of 2"), ((-1, 2, "x"), "got -1"),
     (("0", 2, "x"), "got '0'"), ((0, 2.0, "x"), "of 2.0")],
)  # fmt: skip
def test_a_group_that_makes_no_sense_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words), distributed.group(*arguments):
        pass


@pytest.mark.parametrize(("backend", "ends"), [("gloo", 1), ("cpu:gloo,cuda:nccl", 0)])
def test_nccl_is_not_waited_for_where_a_process_fails(monkeypatch, backend, ends):
    """Its end waits for what the others never send: the message that says why would never be seen."""
    ended = []
    monkeypatch.setattr(distributed, "_start", lambda *_: None)
    monkeypatch.setattr(torch.distributed, "get_backend_config", lambda: backend)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: ended.append(1))
    with pytest.raises(OSError, match="full"), distributed.group(0, 2, "file"):
        raise OSError("full")
    assert len(ended) == ends
    with distributed.group(0, 2, "file"):
        pass
    assert len(ended) == ends + 1


@pytest.mark.parametrize(
    ("said", "reason"),
    [("[../gloo/pair.cc:525] Connection closed by peer [127.0.0.1]. More", "(Connection closed by peer [127.0.0.1])"),
     ("NCCL error in: x.cpp:1, invalid usage\nLast error:\nDuplicate GPU detected : rank 1 and rank 0",
      "(Duplicate GPU detected : rank 1 and rank 0)")],
)  # fmt: skip
def test_the_reason_of_a_lost_process_is_the_telling_line(said, reason):
    with pytest.raises(ConnectionError, match=re.escape(reason)), distributed._together():
        raise RuntimeError(said)


@pytest.mark.parametrize("minutes", [0, -1, math.nan, math.inf, "1", None])
def test_a_wait_that_is_none_is_refused(minutes):
    with pytest.raises(ValueError, match="minutes: expected a number > 0"), distributed.group(minutes=minutes):
        pass


# --- torchrun ----------------------------------------------------------------------------------------------------

OWN_NETWORK = ["unshare", "--net", "--map-root-user", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]


@pytest.fixture
def torchrun(tmp_path):
    """Starts `torchrun --nproc-per-node 2 -m -- clbook train` with more arguments, in a network that has the loopback
    interface alone; what it prints goes to tmp_path/out and tmp_path/err."""
    try:
        subprocess.run([*OWN_NETWORK, "true"], check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"torchrun listens on all interfaces, and can't have a network of its own here ({error})")
    processes = []

    def start(*arguments):
        command = [*OWN_NETWORK, sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "--",
                   "clbook", "train", *arguments]  # fmt: skip
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
        with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
            processes.append(subprocess.Popen(command, stdout=out, stderr=err, cwd=tmp_path, env=environment))
        return processes[-1]

    yield start
    for process in processes:
        process.terminate()  # and it ends its own; killed, it would leave them behind
        process.wait(60)


def without_chance(folder, steps):
    """A run whose views are the pictures themselves: else each number of processes has random views of its own."""
    draw(folder / "pictures")
    config = dataclasses.replace(small_run(folder), method="simclr", steps=steps, crop=1.0, flip=0.0, jitter=0.0,
                                 gray=0.0)  # fmt: skip
    (folder / "config.json").write_text(json.dumps(dataclasses.asdict(config)))
    return config


@pytest.mark.slow
def test_torchrun_trains_to_what_one_process_does(torchrun, tmp_path):
    from clbook import runs

    config = without_chance(tmp_path, steps=4)
    process = torchrun("--config", "config.json", "--run", "run")
    code = process.wait(300)
    out, err = (tmp_path / "out").read_text(), (tmp_path / "err").read_text()
    assert (code, out.count("\n")) == (0, 1) and re.match(r"kNN .*, 4 steps, .*; in run\n", out), err
    assert "Traceback" not in err
    one = training.fit(runs.load_splits(config)["train"].images, config).encoder.state_dict()
    two = torch.load(tmp_path / "run" / "encoder.pt", weights_only=True)
    torch.testing.assert_close(two, dict(one), rtol=0, atol=1e-5)
    first = training.new_encoder(config).state_dict()
    assert all((two[name] - first[name]).abs().max() > 1e-3 for name in two if name.endswith("weight"))


@pytest.mark.slow
def test_torchrun_told_to_stop_leaves_a_checkpoint_and_goes_on(torchrun, tmp_path):
    from clbook import runs

    config, rows, arguments = without_chance(tmp_path, steps=100_000), [], ["--config", "config.json", "--run", "run"]
    for stop in signal.SIGINT, signal.SIGTERM:
        process = torchrun(*arguments)
        wait_for_rows(process, tmp_path, len(rows) + 3)
        interfaces = re.findall(r"(?m)^ *(\S+):", Path(f"/proc/{process.pid}/net/dev").read_text())
        assert interfaces == ["lo"]
        process.send_signal(stop)
        assert process.wait(120) != 0
        out, err = (tmp_path / "out").read_text(), (tmp_path / "err").read_text()
        assert (
            "stopped early, `torchrun --nproc-per-node 2 -m -- clbook train --resume run` goes on" in out
            and out.count("\n") == 1
        ), err
        state = runs.RunFolder.reopen(tmp_path / "run").load_checkpoint(config)
        before, rows = rows, runs.read_metrics(tmp_path / "run" / "metrics.csv")
        kept = [row for row in before if row["step"] % 10 == 0]  # where it stopped a row was added
        assert rows[: len(kept)] == kept and rows[-1]["step"] == state["log"]["count"]
        arguments = ["--resume", "run"]
    steps = [row["step"] for row in rows]
    assert steps[:-1] == list(range(0, steps[-1], 10)) and len(steps) > len(before) + 1


def wait_for_rows(process, folder, count):
    path, deadline = folder / "run" / "metrics.csv", time.monotonic() + 120
    while not path.exists() or path.read_text().count("\n") <= count:
        assert process.poll() is None and time.monotonic() < deadline, (folder / "err").read_text()
        time.sleep(0.05)


if __name__ == "__main__":
    work(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
