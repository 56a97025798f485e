import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from deblurgs.errors import CaptureError
from deblurgs.restore.mimo_unet import MimoConfig, MimoUNet
from deblurgs.restore.weights import load_network, read_notes, save_weights

SMALL = MimoConfig(4, 3)


@pytest.fixture
def network() -> MimoUNet:
    torch.manual_seed(0)
    return MimoUNet(SMALL)


@pytest.mark.parametrize("old_format", [False, True])
@pytest.mark.parametrize("wrap", ["model", "bare", "module"])
def test_official_checkpoints_load_in_every_form_and_the_block_count_is_inferred(
    tmp_path: Path, network: MimoUNet, wrap: str, old_format: bool
) -> None:
    state: object = network.state_dict()
    if wrap == "model":
        state = {"model": state, "epoch": 3}
    elif wrap == "module":
        state = {"model": OrderedDict((f"module.{k}", v) for k, v in network.state_dict().items())}
    path = tmp_path / "MIMO-UNet.pkl"
    torch.save(state, path, _use_new_zipfile_serialization=not old_format)
    loaded = load_network(path)
    assert loaded.config.blocks == 3 and loaded.config.width == 4
    photo = torch.rand(1, 3, 8, 8)
    assert torch.equal(loaded(photo)[2], network.eval()(photo)[2])


def test_safetensors_in_half_precision_come_back_with_their_notes(tmp_path: Path, network: MimoUNet) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, network, notes={"steps": 7})
    assert read_notes(path) == {"steps": 7}
    photo = torch.rand(1, 3, 8, 8)
    assert torch.allclose(load_network(path)(photo)[2], network(photo)[2], atol=2e-3)


def test_a_guided_network_is_told_by_its_tensors(tmp_path: Path) -> None:
    path = tmp_path / "guided.safetensors"
    torch.manual_seed(0)
    network = MimoUNet(MimoConfig(4, 1, guided=True)).eval()
    for parameter in network.guide.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    save_weights(path, network, notes={}, half=False)
    photo = torch.rand(1, 3, 132, 64)
    assert torch.allclose(load_network(path)(photo)[2], network(photo)[2], atol=1e-5)


@pytest.mark.parametrize("what", ["half", "estimator", "other size", "nan"])
def test_a_guided_network_with_wrong_parts_is_refused(tmp_path: Path, what: str) -> None:
    state = MimoUNet(MimoConfig(4, 1, guided=True)).state_dict()
    if what == "half":
        state = {k: v for k, v in state.items() if not k.startswith("guide.features.2")}
    elif what == "estimator":
        state = {k: v for k, v in state.items() if not k.startswith("guide.")}
    elif what == "other size":
        state["estimator.whole.1.bias"] = torch.zeros(10)
    else:
        state["guide.shares.bias"] = torch.full_like(state["guide.shares.bias"], torch.nan)
    path = tmp_path / "wrong.safetensors"
    save_file(state, path)
    with pytest.raises(CaptureError, match=r"wrong\.safetensors"):
        load_network(path)


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path(self.canary),)  # type: ignore[attr-defined,return-value]


@pytest.mark.parametrize("name", ["evil.pkl", "evil.pt", "evil.safetensors"])
@pytest.mark.parametrize("how", ["pickle", "torch"])
def test_a_program_in_place_of_weights_is_refused_and_not_run(tmp_path: Path, name: str, how: str) -> None:
    canary = tmp_path / "canary"
    bomb = Bomb()
    bomb.canary = str(canary)  # type: ignore[attr-defined]
    path = tmp_path / name
    if how == "pickle":
        path.write_bytes(pickle.dumps({"model": bomb}))
    else:
        torch.save({"model": bomb}, path)
    with pytest.raises(CaptureError, match=name) as refused:
        load_network(path)
    assert "weights_only" not in str(refused.value), "no advice to read the file unsafely"
    assert not canary.exists()


def test_damaged_foreign_and_missing_files_are_named_with_the_reason(
    tmp_path: Path, network: MimoUNet
) -> None:
    good = tmp_path / "good.safetensors"
    save_weights(good, network, notes={})
    cases: dict[str, bytes] = {
        "cut.safetensors": good.read_bytes()[:-50],
        "text.pkl": b"hello",
        "empty.pkl": b"",
        "huge_header.safetensors": b"\xff" * 8 + b"{}",
    }
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(CaptureError, match=name):
            load_network(tmp_path / name)
    with pytest.raises(CaptureError, match=r"gone\.pkl"):
        load_network(tmp_path / "gone.pkl")
    with pytest.raises(CaptureError, match="not a file"):
        load_network(tmp_path)


def test_other_networks_and_broken_numbers_are_refused(tmp_path: Path, network: MimoUNet) -> None:
    def saved(state: object) -> Path:
        torch.save(state, tmp_path / "x.pkl")
        return tmp_path / "x.pkl"

    state = dict(network.state_dict())
    with pytest.raises(CaptureError, match="no MIMO-UNet"):
        load_network(saved({"model": {"conv.weight": torch.zeros(3)}}))
    with pytest.raises(CaptureError, match="unknown"):
        load_network(saved({**state, "extra.weight": torch.zeros(3)}))
    less = {k: v for k, v in state.items() if k != "FAM1.merge.main.0.bias"}
    with pytest.raises(CaptureError, match="FAM1"):
        load_network(saved(less))
    with pytest.raises(CaptureError, match="shape"):
        load_network(saved({**state, "FAM1.merge.main.0.bias": torch.zeros(5)}))
    with pytest.raises(CaptureError, match="not finite"):
        load_network(saved({**state, "FAM1.merge.main.0.bias": torch.full((16,), float("nan"))}))
    with pytest.raises(CaptureError, match="more than named"):
        load_network(saved({**state, "steps": 3}))
    many = {"Encoder.0.layers.9999.main.0.main.0.weight": torch.zeros(1)}
    with pytest.raises(CaptureError, match="10000 blocks"):
        load_network(saved({**state, **many}))
