"""Training learns from synthetic photos, survives a kill, and refuses nonsense."""

import csv
import dataclasses
import errno
import inspect
import itertools
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from safetensors.torch import load_file

import supernet.train as module
from supernet.__main__ import _errors, app, train_command
from supernet.checkpoint import load_supernet, save_supernet
from supernet.data.cache import batches
from supernet.data.folder import write_folder
from supernet.data.synthetic import synthetic
from supernet.errors import CheckpointError, SettingsError
from supernet.losses import LOSSES
from supernet.network import FITTED, Supernet, extract
from supernet.space import get_space
from supernet.teacher import DISTILLATIONS, LARGEST_SHARE, LastEpochTeacher, SelfTeacher, as_target
from supernet.train import train
from supernet.train_config import TrainConfig, command_of, learning_rate
from supernet.train_data import load_training_data, plain_photos
from tests.fixtures.elsewhere import MixedDevices, other_device


def tiny_config(folder: Path, epochs: int = 2) -> TrainConfig:
    return TrainConfig(
        data=("synthetic",),
        space="tiny",
        out=folder / "tiny.safetensors",
        epochs=epochs,
        full_resolution_epochs=1,
        frozen_epochs=1,
        batch_size=8,
        held_out=8,
        statistics_subnets=8,
        threads=1,
    )


def short_config(folder: Path, epochs: int = 2) -> TrainConfig:
    """Three steps an epoch."""
    config = tiny_config(folder, epochs)
    return dataclasses.replace(config, held_out=40, statistics_subnets=2, random_subnets=1, frozen_epochs=0)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SALNAS_CACHE", str(tmp_path / "cache"))


def test_a_tiny_supernet_learns_where_the_planted_objects_are(tmp_path: Path) -> None:
    path = train(tiny_config(tmp_path, epochs=4), resume=False)
    supernet, provenance = load_supernet(path)
    assert provenance["held_out"]["largest_cc"] > 0.6
    assert provenance["command"].startswith("salnas train --data synthetic --space tiny")
    assert supernet.statistics.abs().sum() > 0


def test_statistics_are_fitted_again_to_the_same_weights(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, epochs=1)
    before, _ = load_supernet(train(config))
    out = tmp_path / "again.safetensors"
    words = ["statistics", str(config.out), "--out", str(out), "--data", "synthetic", "--photos", "16"]
    app([*words, "--subnets", "5", "--seed", "3"], standalone_mode=False)
    after, provenance = load_supernet(out)
    fitted = provenance["statistics"]
    assert fitted.pop("precision") in ("fp32", "bf16")
    temperature = fitted.pop("temperature")
    sizes = {"subnets": 5, "photos": 16, "more_photos": 96}
    assert fitted == {"data": ["synthetic"], "data_weights": [], **sizes, "seed": 3}
    assert provenance["config"]["held_out"] == 8
    old, new = before.state_dict(), after.state_dict()
    last = {f"weights.decoder.{len(before.weights.decoder) - 1}.bn.{name}" for name in ("weight", "bias")}
    assert {key for key in old if not torch.equal(old[key], new[key])} == {*FITTED, *last}
    for key in last:
        assert new[key] == pytest.approx(old[key] / temperature, rel=1e-3)


def test_statistics_are_of_all_sets_that_train(tmp_path: Path) -> None:
    write_folder(synthetic(30, seed=5), tmp_path / "mine")
    config = dataclasses.replace(
        short_config(tmp_path), data=("synthetic", str(tmp_path / "mine")), data_weights=(1.0, 3.0)
    )
    training, _ = load_training_data(config)
    photos = torch.cat(plain_photos(training, 32, config))
    first = torch.cat([batch.images for batch in batches(training.caches[0], 16, augment=False)]).flatten(1)
    of_first = (torch.cdist(photos.flatten(1), first) < 1e-3).any(1).float().mean()
    assert 0 < of_first < 0.5
    again = torch.cat(plain_photos(training, 32, config))
    assert torch.equal(photos, again)
    short, _ = load_training_data(dataclasses.replace(config, epoch_photos=16))
    assert sum(len(batch) for batch in plain_photos(short, 32, config)) == 32


def test_the_statistics_of_a_mean_of_supernets_are_its_own(tmp_path: Path) -> None:
    first = train(tiny_config(tmp_path, epochs=1))
    second = train(
        dataclasses.replace(
            tiny_config(tmp_path, epochs=1), seed=7, start_from=first, out=tmp_path / "b.safetensors"
        )
    )
    out = tmp_path / "mean.safetensors"
    words = ["statistics", str(first), str(second), "--share", "0.75", "--share", "0.25", "--out", str(out)]
    app([*words, "--data", "synthetic", "--photos", "16", "--subnets", "5"], standalone_mode=False)
    one, other, mean = (load_supernet(path)[0].state_dict() for path in (first, second, out))
    weights = [name for name in one if name.endswith("weight") and "decoder.6" not in name]
    assert any(not torch.equal(one[name], other[name]) for name in weights)
    for name in weights:
        torch.testing.assert_close(mean[name], 0.75 * one[name] + 0.25 * other[name], atol=1e-3, rtol=1e-3)
    assert not torch.equal(mean["statistics"], one["statistics"])
    provenance = load_supernet(out)[1]
    assert [part["share"] for part in provenance["average"]] == [0.75, 0.25]
    assert provenance["statistics"]["subnets"] == 5


@pytest.mark.slow
def test_a_killed_training_continues_to_the_same_result(tmp_path: Path) -> None:
    whole = train(tiny_config(tmp_path / "whole", epochs=3), resume=False)
    config = tiny_config(tmp_path / "killed", epochs=3)
    command = [sys.executable, "-m", "supernet", "train", "--data", "synthetic", "--space", "tiny"]
    command += ["--out", str(config.out), "--epochs", "3", "--full-resolution-epochs", "1"]
    command += ["--frozen-epochs", "1"]
    command += ["--batch-size", "8", "--held-out", "8", "--statistics-subnets", "8", "--threads", "1"]
    command += ["--precision", "fp32"]  # not whichever this processor is best at
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    state = config.out.with_suffix(".state")
    deadline = time.monotonic() + 120
    while not state.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not config.out.exists()
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    ours, theirs = load_file(whole), load_file(config.out)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[key]) for key, tensor in ours.items())


def test_a_state_of_another_configuration_is_refused(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, epochs=1)
    train(config)
    with pytest.raises(CheckpointError, match="another configuration"):
        train(dataclasses.replace(config, seed=1))
    config.out.with_suffix(".state").write_bytes(b"half a file")
    with pytest.raises(CheckpointError, match="cannot be read"):
        train(config)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 1}, "batch_size"),
        ({"data": ()}, "data"),
        ({"out": Path("model.pt")}, "out"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"seed": -1}, "seed"),
        ({"data": ("osie", "crowd"), "data_weights": (1.0,)}, "data_weights"),
        ({"epoch_photos": 15}, "epoch_photos"),
        ({"warm_start": Path("a"), "start_from": Path("b")}, "start_from"),
        ({"largest_every": -1}, "largest_every"),
        ({"optimizer": "adam"}, "optimizer"),
        ({"precision": "fp16"}, "precision"),
        ({"loss": "mse"}, "loss"),
        ({"distillation": "self"}, "distillation"),
        ({"alpha": 1.5}, "alpha"),
        ({"smallest_crop": 0.0}, "smallest_crop"),
        ({"schedule": "linear"}, "schedule"),
        ({"restart_epochs": 0}, "restart_epochs"),
        ({"accumulate": 0}, "accumulate"),
        ({"execution": "compiled"}, "execution"),
        ({"distillation": "in-place", "largest_every": 2}, "largest_every"),
        ({"distillation": "in-place", "largest_every": 0}, "largest_every"),
        ({"energy_country": "Thailand"}, "energy_country"),
    ],
)
def test_nonsense_is_refused(changes: dict[str, object], field: str) -> None:
    with pytest.raises(SettingsError) as caught:
        TrainConfig(**changes)  # type: ignore[arg-type]
    assert caught.value.field == field


def test_holding_out_everything_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="held out"):
        train(dataclasses.replace(tiny_config(tmp_path), held_out=10**6))


def test_the_smallest_subnet_can_be_trained_alone_in_its_supernet(tmp_path: Path) -> None:
    start = train(short_config(tmp_path / "start", epochs=1))
    config = dataclasses.replace(
        short_config(tmp_path / "alone"),
        start_from=start,
        random_subnets=0,
        largest_every=0,
        optimizer="adamw",
        learning_rate=1e-3,
    )
    before, after = (load_supernet(path)[0] for path in (start, train(config)))
    smallest = extract(before, before.space.smallest())
    used = [tensor.sum() for _, tensor in before.slices(smallest) if tensor.requires_grad]
    torch.stack(used).sum().backward()  # type: ignore[no-untyped-call]
    own = {name: tensor.grad for name, tensor in before.named_parameters()}
    learned = 0
    for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
        gradient = own[name]
        others = torch.ones_like(old, dtype=torch.bool) if gradient is None else gradient == 0
        assert torch.equal(old[others], new[others]), name
        learned += int((old != new).sum())
    assert learned > sum(p.numel() for p in smallest.parameters()) / 4


# Resuming -------------------------------------------------------------------------------------------


class Killed(Exception):
    pass


def train_in_two(config: TrainConfig, epochs: int) -> Path:
    """Train, be killed in the middle of an epoch, and continue."""

    def kill(what: str, done: int, total: int) -> None:
        if what.startswith(f"epoch {epochs + 1} ") and done % 3 == 2:
            raise Killed

    with pytest.raises(Killed):
        train(config, progress=kill, resume=False)
    assert not config.out.exists()
    return train(config)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "bf16", "optimizer": "adamw", "learning_rate": 2e-3, "mixed": True},
        {"epoch_photos": 24, "mixed": True},
        {"largest_every": 2, "accumulate": 2, "schedule": "restarts", "restart_epochs": 1},
        *({"distillation": name} for name in DISTILLATIONS if name != "none"),
        {"distillation": "pkd", "optimizer": "adamw", "learning_rate": 2e-3},
    ],
    ids=lambda changes: "-".join(str(value) for value in changes.values()),
)
def test_every_option_resumes_to_the_identical_result(changes: dict[str, object], tmp_path: Path) -> None:
    fields = dict(changes)
    if fields.pop("mixed", False):
        write_folder(synthetic(30, seed=5), tmp_path / "mine")
        fields |= {"data": ("synthetic", str(tmp_path / "mine")), "data_weights": (3.0, 1.0)}
    whole = dataclasses.replace(short_config(tmp_path / "whole"), **fields)  # type: ignore[arg-type]
    cut = dataclasses.replace(whole, out=tmp_path / "cut" / "tiny.safetensors")
    ours, theirs = load_file(train(whole, resume=False)), load_file(train_in_two(cut, epochs=1))
    assert all(torch.equal(tensor, theirs[key]) for key, tensor in ours.items())


def test_what_only_watches_does_not_change_the_state(tmp_path: Path) -> None:
    config = short_config(tmp_path, epochs=1)
    before = load_file(train(config))
    watched = dataclasses.replace(config, tensorboard=tmp_path / "board")
    after = load_file(train(watched))
    assert all(torch.equal(tensor, after[key]) for key, tensor in before.items())


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("smallest_crop", 1.0),
        ("held_out", 40),
        ("precision", "fp32"),
        ("precision", "bf16"),
        ("alpha", 0.4),
        ("start_from", Path("some.safetensors")),
    ],
)
def test_a_command_tells_what_a_result_depends_on(setting: str, value: Any) -> None:
    assert setting in inspect.signature(train_command).parameters
    changed: Any = {setting: value}
    told = command_of(TrainConfig(**changed))
    assert f"--{setting.replace('_', '-')} {value}" in told


def test_a_command_names_options_alone() -> None:
    settings = dataclasses.fields(TrainConfig)
    counts: Any = {one.name: one.default + 1 for one in settings if type(one.default) is int}
    config = TrainConfig(
        **counts, alpha=0.1, loss="cc+kld", execution="masked", encoder_rate=0.1, weight_decay=0.1
    )
    told = command_of(config)
    options = {f"--{name.replace('_', '-')}" for name in inspect.signature(train_command).parameters}
    assert {word for word in told.split() if word.startswith("--")} <= options


def test_training_goes_on_from_a_supernet(tmp_path: Path) -> None:
    first = train(short_config(tmp_path, epochs=1))
    further = dataclasses.replace(
        short_config(tmp_path / "further", epochs=1), start_from=first, learning_rate=1e-9
    )
    _, provenance = load_supernet(train(further))
    before, _ = load_supernet(first)
    after, _ = load_supernet(further.out)
    trained = dict(after.weights.named_parameters())
    for name, tensor in before.weights.named_parameters():
        relative = 1e-2 if "decoder.6" in name else 0.0  # temperatures are fitted to three digits
        assert torch.allclose(tensor, trained[name], atol=2e-3, rtol=relative), name
    assert provenance["config"]["start_from"] == "tiny.safetensors"
    assert "--start-from tiny.safetensors" in provenance["command"]
    other = tmp_path / "other.safetensors"
    save_supernet(other, Supernet(get_space("tiny")), {})
    with pytest.raises(SettingsError, match="holds the space tiny"):
        train(dataclasses.replace(further, space="salnas", start_from=other), resume=False)


def test_a_full_disk_leaves_the_old_state_whole(tmp_path: Path) -> None:
    config = short_config(tmp_path)
    state = config.out.with_suffix(".state")
    saved: list[bytes] = []

    def fill(what: str, done: int, total: int) -> None:
        if what.startswith("epoch 2 ") and not saved:
            saved.append(state.read_bytes())
            # No file may grow beyond half a state from here on: what a full disk is to the writer.
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(saved[0]) // 2, hard))

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(CheckpointError, match="cannot be written") as caught:
            train(config, progress=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert "room" in str(caught.value)
    assert state.read_bytes() == saved[0]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".tiny")] == []
    whole = load_file(train(dataclasses.replace(config, out=tmp_path / "whole" / "tiny.safetensors")))
    ours = load_file(train(config))
    assert all(torch.equal(tensor, ours[key]) for key, tensor in whole.items())


# Options --------------------------------------------------------------------------------------------


def test_masked_execution_trains_to_the_same_weights(tmp_path: Path) -> None:
    config = dataclasses.replace(short_config(tmp_path / "sliced", 1), random_subnets=2, learning_rate=1e-3)
    sliced, masked = (
        load_supernet(
            train(dataclasses.replace(config, execution=name, out=tmp_path / f"{name}.safetensors"))
        )[0]
        for name in ("sliced", "masked")
    )
    for (name, one), two in zip(sliced.weights.named_parameters(), masked.weights.parameters(), strict=True):
        torch.testing.assert_close(one, two, atol=2e-3, rtol=2e-2, msg=name)


def test_restarts_are_cosines_by_epochs_as_published() -> None:
    config = TrainConfig(schedule="restarts", epochs=20, restart_epochs=10, learning_rate=0.1)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    published = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=10)
    for epoch in range(20):
        wanted = optimizer.param_groups[0]["lr"]
        for step in (0, 6):
            assert learning_rate(config, 7 * epoch + step, 140) == pytest.approx(wanted)
        optimizer.step()
        published.step()


def test_gradients_of_a_group_are_averaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[list[torch.Tensor]] = []

    def record(run: module._Run, rate: float) -> None:
        taken.append([p.grad.clone() for p in run.supernet.parameters() if p.grad is not None])

    monkeypatch.setattr(module, "_update", record)
    config = dataclasses.replace(tiny_config(tmp_path, epochs=1), frozen_epochs=0, full_resolution_epochs=0)
    train(config, resume=False)
    single = list(taken)
    taken.clear()
    train(dataclasses.replace(config, accumulate=4), resume=False)
    assert len(single) == 7
    assert len(taken) == 2
    for group, steps in zip(taken, (single[:4], single[4:]), strict=True):
        for found, *parts in zip(group, *steps, strict=True):
            torch.testing.assert_close(found, torch.stack(parts).mean(0), rtol=1e-4, atol=1e-5)


QUICK: dict[str, Any] = {"random_subnets": 0, "frozen_epochs": 0, "statistics_subnets": 2}


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_learns(loss: str, tmp_path: Path) -> None:
    config = dataclasses.replace(tiny_config(tmp_path, epochs=3), loss=loss, **QUICK)
    _, provenance = load_supernet(train(config))
    assert provenance["held_out"]["largest_cc"] > 0.3


@pytest.mark.parametrize("distillation", DISTILLATIONS)
def test_every_distillation_learns(distillation: str, tmp_path: Path) -> None:
    config = dataclasses.replace(tiny_config(tmp_path, epochs=4), distillation=distillation, **QUICK)
    _, provenance = load_supernet(train(config))
    assert provenance["held_out"]["largest_cc"] > 0.4
    assert (distillation == "none") == ("--distillation" not in provenance["command"])


def test_the_teacher_of_self_kd_is_the_mean_of_the_best() -> None:
    torch.manual_seed(0)
    students = [Supernet(get_space("tiny")) for _ in range(4)]
    teacher = SelfTeacher(students[0], alpha=0.25)
    photos, maps = torch.randn(2, 3, 32, 32), torch.rand(2, 10, 10)
    assert torch.equal(teacher.target(photos, maps, 0), maps)
    for student, loss in zip(students, (3.0, 2.0, 2.5, 1.0), strict=True):
        teacher.end_epoch(student, loss)
    assert teacher.taken == 3
    best = [students[i].state_dict() for i in (0, 1, 3)]
    for name, tensor in teacher.net.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, torch.stack([own[name] for own in best]).mean(0))
    taught = as_target(teacher.net(photos, get_space("tiny").largest()), (10, 10))
    assert taught.amax((1, 2)).tolist() == pytest.approx([1.0, 1.0])
    torch.testing.assert_close(teacher.target(photos, maps, 1), 0.75 * taught + 0.25 * maps)
    assert not teacher.target(photos, maps, 1).requires_grad


def test_the_teacher_of_ps_kd_counts_more_each_epoch() -> None:
    torch.manual_seed(0)
    teacher = LastEpochTeacher(Supernet(get_space("tiny")), epochs=10)
    photos, maps = torch.randn(2, 3, 32, 32), torch.rand(2, 10, 10)
    assert torch.equal(teacher.target(photos, maps, 0), maps)
    taught = as_target(teacher.net(photos, get_space("tiny").largest()), (10, 10))
    for epoch, share in ((1, 0.16), (9, LARGEST_SHARE)):
        expected = share * taught + (1 - share) * maps
        torch.testing.assert_close(teacher.target(photos, maps, epoch), expected)


def test_scalars_and_energy_are_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    pytest.importorskip("codecarbon")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = dataclasses.replace(short_config(tmp_path), tensorboard=tmp_path / "board", energy_country="THA")
    _, provenance = load_supernet(train(config))
    board = EventAccumulator(str(tmp_path / "board"))
    board.Reload()
    with config.out.with_suffix(".history.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    events = board.Scalars("largest_cc")
    assert [event.step for event in events] == [1, 2]
    assert [event.value for event in events] == pytest.approx([float(row["largest_cc"]) for row in rows])
    assert provenance["energy_kwh"] == pytest.approx(sum(float(row["energy_kwh"]) for row in rows), abs=1e-6)
    assert provenance["energy_kwh"] > 0


@pytest.mark.parametrize(("option", "package"), [("tensorboard", "tensorboard"), ("energy", "codecarbon")])
def test_a_missing_package_is_named(
    option: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    chosen: dict[str, Any] = (
        {"tensorboard": tmp_path} if option == "tensorboard" else {"energy_country": "THA"}
    )
    with pytest.raises(SettingsError, match=package) as caught:
        train(dataclasses.replace(tiny_config(tmp_path), **chosen))
    assert f"salnas[{option}]" in str(caught.value)


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    results = [
        load_file(train(dataclasses.replace(short_config(tmp_path / str(i), 1), seed=seed), resume=False))
        for i, seed in enumerate((3, 3, 4))
    ]
    same = [
        all(torch.equal(tensor, other[key]) for key, tensor in one.items())
        for one, other in itertools.pairwise(results)
    ]
    assert same == [True, False]


# Devices --------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("distillation", ["none", "self-kd"])
def test_another_device_trains_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, distillation: str
) -> None:
    config = dataclasses.replace(short_config(tmp_path, 1), distillation=distillation)
    ours = load_file(train(config))
    with other_device(monkeypatch) as device:
        theirs = load_file(
            train(dataclasses.replace(config, device=device, out=tmp_path / "there" / "tiny.safetensors"))
        )
    for name, tensor in ours.items():
        torch.testing.assert_close(theirs[name], tensor, msg=name)


def test_another_device_refuses_to_be_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    here = torch.ones(3)
    with other_device(monkeypatch) as device, pytest.raises(MixedDevices):
        torch.ones(3, device=device) + here


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that CUDA knows")
def test_a_gpu_trains(tmp_path: Path) -> None:
    assert train(dataclasses.replace(short_config(tmp_path, 1), device="cuda")).is_file()


# Files ----------------------------------------------------------------------------------------------


def test_what_the_system_says_of_a_file_is_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "card.json")
    with pytest.raises(typer.Exit) as ended, _errors():
        raise full
    assert ended.value.exit_code == 2
    assert "card.json: No space left on device. Check" in " ".join(capsys.readouterr().err.split())
