"""Training of the enlarging network (tools/train_causal_sr.py): what its steps may change."""

import sys
from pathlib import Path

import pytest
import torch

from deblurgs.restore.causal_sr import CausalSR

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
from train_causal_sr import learnt_parameters, loss_of


@pytest.mark.parametrize("num_blocks", [0, 1])
def test_steps_leave_the_fitted_parts_alone(num_blocks: int) -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    tiles = torch.randint(0, 256, (4, 3, 256, 256), dtype=torch.uint8, generator=generator)
    model = CausalSR(8, num_blocks)
    torch.nn.init.normal_(model.net.linear.filters["2"], std=1e-2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    learnt = learnt_parameters(model)
    optimizer = torch.optim.Adam(learnt, lr=1e-2)
    for _ in range(4):  # so that one scale comes twice: the tails begin at zero
        loss, _ = loss_of(model, tiles, generator, bf16=num_blocks > 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert all(name.startswith(("net.", "intervention.")) for name in changed)
    assert not any(name.startswith("net.linear.") for name in changed)
    assert any(name.startswith("intervention.") for name in changed)
    assert ("net.stem.weight" in changed) == (num_blocks > 0)
