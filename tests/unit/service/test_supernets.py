from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from service.supernets import FORMAT, find_supernet, list_supernets, read_supernet_file
from supernet import checkpoint
from supernet.errors import CheckpointError, SettingsError
from supernet.space import get_space
from tests.fixtures.tiny import TINY, write_supernet


def test_a_header_says_what_the_checkpoint_says(tmp_path: Path) -> None:
    path = write_supernet(tmp_path)
    found = find_supernet(tmp_path, TINY)
    assert found.space is get_space("tiny")
    assert found.provenance == checkpoint.load_supernet(path)[1]
    assert found.fingerprint == checkpoint.file_fingerprint(path)
    assert FORMAT == checkpoint.FORMAT
    assert find_supernet(tmp_path / "elsewhere", path) == found


def test_the_card_is_read_where_there_is_one(tmp_path: Path) -> None:
    path = write_supernet(tmp_path)
    assert find_supernet(tmp_path, TINY).card == {}
    path.with_suffix(".json").write_text('{"cc": 0.7}')
    assert find_supernet(tmp_path, TINY).to_json()["card"] == {"cc": 0.7}
    path.with_suffix(".json").write_text("{")
    with pytest.raises(CheckpointError, match="card"):
        _ = find_supernet(tmp_path, TINY).card


def test_an_unknown_id_lists_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="make train-supernet"):
        find_supernet(tmp_path, "other")
    write_supernet(tmp_path)
    with pytest.raises(CheckpointError, match=TINY) as caught:
        find_supernet(tmp_path, "other")
    assert (caught.value.field, caught.value.value) == ("supernet", "other")


@pytest.mark.parametrize("name", ["../tiny-random", "a/b", "", "x" * 65])
def test_an_id_names_no_other_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError):
        find_supernet(tmp_path, name)


def _foreign(path: Path, metadata: dict[str, str]) -> Path:
    save_file({"x": np.zeros(2, np.float32)}, path, metadata)
    return path


def test_foreign_and_damaged_files_are_refused(tmp_path: Path) -> None:
    whole = write_supernet(tmp_path).read_bytes()
    space = {"space": "tiny", "space_fingerprint": "0" * 16, "provenance": json.dumps({})}
    cases = {
        "cut": whole[: len(whole) // 2],
        "text": b"not a checkpoint",
        "pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00}\x94.",
        "empty": b"",
        "endless header": (2**60).to_bytes(8, "little") + b"{",
        "deep header": (200_000).to_bytes(8, "little") + b"[" * 200_000,
    }
    paths = [_foreign(tmp_path / "plain.safetensors", {"format": "pt"})]
    paths.append(_foreign(tmp_path / "other-choices.safetensors", {"format": FORMAT, **space}))
    for name, content in cases.items():
        paths.append(tmp_path / f"{name}.safetensors")
        paths[-1].write_bytes(content)
    for path in [*paths, tmp_path, tmp_path / "missing.safetensors"]:
        with pytest.raises(CheckpointError) as caught:
            read_supernet_file(path)
        assert caught.value.value == str(path)
        assert caught.value.remedy


def test_a_list_leaves_damaged_files_out(tmp_path: Path) -> None:
    write_supernet(tmp_path)
    write_supernet(tmp_path, "another", seed=1)
    (tmp_path / "supernets" / "broken.safetensors").write_bytes(b"x")
    assert [item.id for item in list_supernets(tmp_path)] == ["another", TINY]
    assert list_supernets(tmp_path / "nowhere") == []
