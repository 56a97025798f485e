"""Training of the enlarging network (tools/train_causal_sr.py): what its steps may change."""

import sys
from pathlib import Path

import pytest
import torch

from deblurgs.restore.causal_sr import CausalSR

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
from train_causal_sr import fit_encoder, learnt_parameters, loss_of


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


def test_the_encoder_can_be_fitted_after_the_choice_of_what_is_learnt() -> None:
    """In the order of `train`: the optimiser is made first, because a saved state needs it."""
    generator = torch.Generator().manual_seed(0)
    tiles = torch.randint(0, 256, (4, 3, 256, 256), dtype=torch.uint8, generator=generator)
    model = CausalSR(8, 1)
    learnt_parameters(model)
    before = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    fit_encoder(model, tiles, generator, pairs=70, epochs=1)
    after = model.encoder.state_dict()
    assert not any(torch.equal(after[name], before[name]) for name in before)
