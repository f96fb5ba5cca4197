"""The loop: a run that was stopped, or killed, is the run it would have been."""

import json
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from re2pix_node.errors import TrainingError
from re2pix_node.training import loop
from re2pix_node.training.loop import Batch, StoppedError, Sums, train
from re2pix_node.training.progress import progress_bar
from re2pix_node.training.run_file import Optimisation
from re2pix_node.training.stored import read_stored
from tests.support.prepared import PreparedProcess, start_prepared

SETTINGS = Optimisation(steps=12, batch=4, learning_rate=0.05, warmup=2, val_every=4, average=0.5)


class Line(nn.Module):
    """Learns y = 2 x + 1, with chance in it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(1, 1)
        self.drop = nn.Dropout(0.2)

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss = (self.drop(self.net(x)) - 2 * x - 1).square().mean()
        return loss, {"size": self.net.weight.abs().sum().detach()}


class LineTask:
    name = "line"

    def __init__(self, poison: int = 0, pause: float = 0.0) -> None:
        torch.manual_seed(0)
        self.model = Line()
        self.drawn: list[int] = []
        self._poison, self._pause = poison, pause

    def batch(self, step: int, rank: int, world: int) -> Batch:
        self.drawn.append(step)
        time.sleep(self._pause)
        x = torch.randn(4, 1, generator=torch.Generator().manual_seed(step))[rank::world]
        return {"x": x * float("nan") if step == self._poison else x}

    def val_batches(self, rank: int, world: int) -> Iterator[Batch]:
        yield {"x": torch.ones(2, 1)}

    def empty(self) -> Sums:
        return {"apart": torch.zeros(()), "count": torch.zeros(())}

    def measure(self, model: nn.Module, batch: Batch) -> Sums:
        assert isinstance(model, Line)
        assert not model.training
        return {"apart": (model.net(batch["x"]) - 3).abs().sum(), "count": torch.tensor(float(len(batch["x"])))}

    def summary(self, sums: Sums) -> dict[str, float]:
        return {"apart": float(sums["apart"] / sums["count"])}


def trained(folder: Path, settings: Optimisation = SETTINGS, task: LineTask | None = None) -> tuple[dict, LineTask]:
    task = task or LineTask()
    return train(task, settings, 7, folder, Accelerator(cpu=True, mixed_precision="no")), task


def weights(task: LineTask) -> list[float]:
    return [float(p.detach()) for p in task.model.parameters()]


def steps_in_log(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()]


def test_it_learns_and_logs(tmp_path: Path) -> None:
    figures, task = trained(tmp_path, replace(SETTINGS, steps=200, val_every=100, learning_rate=0.1, weight_decay=0.0))
    assert figures["apart"] < 0.7
    assert float(task.model.net(torch.ones(1, 1)).detach()) == pytest.approx(3, abs=0.7)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [50, 100, 150, 200]
    assert lines[-1]["val apart"] == pytest.approx(figures["apart"])
    assert lines[0]["loss"] > lines[-1]["loss"]


class KilledError(Exception):
    pass


def stop_after(step: int, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Dies without a word at the end of a step, some steps after the last checkpoint."""
    original = loop._Loop._stop_if_asked

    def die(self: loop._Loop) -> None:
        if self._step == step - 2:
            self._store()
        if self._step == step:
            raise KilledError
        original(self)

    with monkeypatch.context() as patch:
        patch.setattr(loop._Loop, "_stop_if_asked", die)
        with pytest.raises(KilledError):
            trained(folder)


def test_a_run_that_died_becomes_the_run_it_would_have_been(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures, whole = trained(tmp_path / "whole")
    stop_after(7, monkeypatch, tmp_path / "dead")
    (tmp_path / "dead/.partial-1-checkpoint.pt").write_bytes(b"half")
    with (tmp_path / "dead/log.jsonl").open("a") as log:
        log.write('{"step": 6, "lo')
    resumed_figures, resumed = trained(tmp_path / "dead")
    assert min(resumed.drawn) == 6
    assert weights(resumed) == weights(whole)
    assert resumed_figures == figures
    assert steps_in_log(tmp_path / "dead") == steps_in_log(tmp_path / "whole") == [4, 8, 12]
    assert sorted(file.name for file in (tmp_path / "dead").iterdir()) == ["checkpoint.pt", "log.jsonl"]


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    figures, whole = trained(tmp_path)
    again_figures, again = trained(tmp_path)
    assert again.drawn == []
    assert (again_figures, weights(again)) == (figures, weights(whole))


def test_the_seed_matters(tmp_path: Path) -> None:
    task = LineTask()
    train(task, SETTINGS, 8, tmp_path / "a", Accelerator(cpu=True, mixed_precision="no"))
    assert weights(task) != weights(trained(tmp_path / "b")[1])


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_what_was_good(tmp_path: Path) -> None:
    trained(tmp_path, replace(SETTINGS, steps=4))
    kept = read_stored(tmp_path / "checkpoint.pt")
    with pytest.raises(
        TrainingError, match=r"line: the gradient of step 6 is not finite .*checkpoint\.pt stays"
    ) as raised:
        trained(tmp_path, task=LineTask(poison=6))
    assert "\n" not in str(raised.value)
    assert read_stored(tmp_path / "checkpoint.pt")["step"] == kept["step"] == 4


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save({"step": 3, "model": {"x": torch.zeros(1)}, "optimizer": {}, "average": []}, tmp_path / "checkpoint.pt")
    with pytest.raises(TrainingError, match=r"does not fit this run .*restart with --force"):
        trained(tmp_path)
    (tmp_path / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(TrainingError, match=r"checkpoint\.pt: cannot be read"):
        trained(tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"step": -1}, "its step is -1, of 12"),
        ({"step": 13}, "its step is 13, of 12"),
        ({"step": "7"}, "its step is '7', of 12"),
        ({"average": []}, "the average is of other weights"),
        ({"average": [3.0, 4.0]}, "'float' object has no attribute 'to'"),
        ({"model": []}, "state_dict"),
        ({"optimizer": {}}, "param_groups"),
        ({"optimizer": "Adam"}, "'str' object"),
    ],
)
def test_a_part_of_a_checkpoint_that_is_wrong_is_named(tmp_path: Path, change: dict, reason: str) -> None:
    trained(tmp_path)
    state = read_stored(tmp_path / "checkpoint.pt")
    torch.save({**state, **change}, tmp_path / "checkpoint.pt")
    with pytest.raises(TrainingError, match=rf"checkpoint\.pt: does not fit this run \(.*{reason}.*\): restart"):
        trained(tmp_path)


def test_an_optimizer_of_other_weights_is_refused(tmp_path: Path) -> None:
    trained(tmp_path)
    state = read_stored(tmp_path / "checkpoint.pt")
    state["optimizer"]["state"][0]["exp_avg"] = torch.zeros(3, 3)
    torch.save(state, tmp_path / "checkpoint.pt")
    with pytest.raises(TrainingError, match="the optimizer's exp_avg is of another shape than its parameter"):
        trained(tmp_path)


def test_lines_of_the_log_that_are_not_ours_go(tmp_path: Path) -> None:
    trained(tmp_path)
    log = tmp_path / "log.jsonl"
    kept = steps_in_log(tmp_path)
    log.write_text(log.read_text() + '[]\n{"epoch": 3}\n7\n{"step": ')
    trained(tmp_path)
    assert steps_in_log(tmp_path) == kept
    log.write_bytes(b"\xff\xfe")
    with pytest.raises(TrainingError, match=r"log\.jsonl: cannot be read \(.*\): move it away"):
        trained(tmp_path)


def test_a_checkpoint_executes_nothing(tmp_path: Path) -> None:
    torch.save({"step": os.system}, tmp_path / "checkpoint.pt")
    with pytest.raises(TrainingError, match="cannot be read"):
        trained(tmp_path)


def test_bf16_trains_as_well(tmp_path: Path) -> None:
    assert trained(tmp_path, replace(SETTINGS, precision="bf16"))[0]["apart"] != trained(tmp_path / "x")[0]["apart"]


RUN = """
import sys
from pathlib import Path
from tests.training.test_loop import *
trained(Path(sys.argv[1]), replace(SETTINGS, steps=100000, checkpoint_minutes=0.0001), LineTask(pause=0.01))
"""


def started(script: str, *words: object, **environment: str) -> PreparedProcess:
    """A process that runs a script. PyTorch takes seconds to import: it begins with that done."""
    env = {**os.environ, **environment}
    return start_prepared("tests.support.script", script, *words, env=env, imported=("tests.training.test_loop",))


def wait_for(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


class SignalledTask(LineTask):
    def batch(self, step: int, rank: int, world: int) -> Batch:
        if step == 5:
            signal.raise_signal(self.number)
        return super().batch(step, rank, world)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stores_before_it_stops(tmp_path: Path, number: int, code: int) -> None:
    before = signal.getsignal(number)
    task = SignalledTask()
    task.number = number
    with pytest.raises(StoppedError, match=r"stopped at step [345]: the same command continues from there") as raised:
        trained(tmp_path, task=task)
    assert raised.value.code == code
    assert str(read_stored(tmp_path / "checkpoint.pt")["step"]) in str(raised.value)
    assert signal.getsignal(number) is before
    assert weights(trained(tmp_path)[1]) == weights(trained(tmp_path / "whole")[1])


def test_after_sigkill_only_the_steps_since_the_last_checkpoint_are_lost(tmp_path: Path) -> None:
    process = started(RUN, tmp_path)
    wait_for(lambda: (tmp_path / "log.jsonl").is_file() and len(steps_in_log_so_far(tmp_path)) > 5)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = steps_in_log_so_far(tmp_path)[-1]
    step = read_stored(tmp_path / "checkpoint.pt")["step"]
    assert step >= done - 5
    _, resumed = trained(tmp_path, replace(SETTINGS, steps=step + 3))
    assert resumed.drawn == [step + 1, step + 2, step + 3]


def steps_in_log_so_far(folder: Path) -> list[int]:
    return [int(step) for step in re.findall(r'"step": (\d+),', (folder / "log.jsonl").read_text())]


def test_without_a_terminal_progress_is_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with progress_bar("encoding", "frame", 100, done=40) as progress:
        progress.mininterval = 0
        progress.set_postfix_str("clip", refresh=False)
        progress.update(30)
    first, second, last = capsys.readouterr().err.splitlines()
    assert first.startswith("encoding 40/100 [00:00<?")
    assert second.startswith("encoding 70/100 [")
    assert second.endswith("frame/s, clip]")
    assert last.startswith("encoding 70/100 [")
    for silent in ({"done": 100}, {"done": 0, "RANK": "1"}):
        monkeypatch.setenv("RANK", silent.get("RANK", "0"))
        with progress_bar("encoding", "frame", 100, done=silent["done"]) as progress:
            progress.update()
    assert capsys.readouterr().err == ""


SHARED = """
import sys
from pathlib import Path
from re2pix_node.training.processes import leave
from tests.training.test_loop import *
task = LineTask()
task.model.drop.p = 0.0
trained(Path(sys.argv[1]), SETTINGS, task)
leave(0)
"""
# Gloo's threads run when nothing else does, and wait for Python in vain: the last exchange is still theirs at the end.
LATE = """
import os, sys
from pathlib import Path
import torch
from re2pix_node.training.processes import join, leave
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
sys.setswitchinterval(100)
accelerator = join()
for thread in Path("/proc/self/task").iterdir():
    if "gloo" in (thread / "comm").read_text():
        os.sched_setscheduler(int(thread.name), os.SCHED_IDLE, os.sched_param(0))
for _ in range(8):
    accelerator.gather(torch.tensor([1.0]))
leave(3 + accelerator.process_index)
"""


def codes_of_two(script: str, *arguments: str) -> list[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    with ExitStack() as stack:
        processes = []
        for rank in range(2):
            shared = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
            process = started(script, *arguments, **shared, MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
            stack.callback(process.kill)
            processes.append(process)
        return [process.wait(timeout=250) for process in processes]


def test_several_processes_train_what_one_would(tmp_path: Path) -> None:
    codes = codes_of_two(SHARED, str(tmp_path / "two"))
    task = LineTask()
    task.model.drop.p = 0.0
    trained(tmp_path / "one", task=task)
    assert codes == [0, 0]
    one, two = (read_stored(tmp_path / name / "checkpoint.pt") for name in ("one", "two"))
    assert steps_in_log(tmp_path / "two") == steps_in_log(tmp_path / "one")
    for name, tensor in one["model"].items():
        torch.testing.assert_close(two["model"][name], tensor)


def test_one_of_several_processes_ends_with_its_own_code() -> None:
    assert codes_of_two(LATE) == [3, 4]


def test_one_of_several_processes_that_cannot_go_on_says_so_and_ends(tmp_path: Path) -> None:
    script = "import sys; from re2pix_node.cli import main; sys.exit(main(sys.argv[1:]))"
    ours, other = codes_of_two(script, "train", "head", str(tmp_path / "missing.yaml"), "-o", str(tmp_path / "run"))
    assert ours == 2
    assert other != 0  # it waited for the first
