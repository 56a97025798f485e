"""Blur codes steer a network: they scale and shift the features of its residual blocks.

A feature-wise linear modulation (FiLM; Perez et al., AAAI 2018, arXiv 1709.07871). One set of filters cannot undo
every blur; which of them count follows from the blur that was read.
"""

from torch import Tensor, nn

from deblurgs.restore.blur_code import CODE_SIZE

_WIDTH = 96


class Steering(nn.Module):
    """Codes [B,CODE_SIZE] -> for every block of c channels [B,2c,1,1]: scales less 1, then shifts.

    It begins as the identity.
    """

    def __init__(self, channels: list[int]):
        super().__init__()
        self.main = nn.Sequential(
            nn.Linear(CODE_SIZE, _WIDTH), nn.ReLU(), nn.Linear(_WIDTH, _WIDTH), nn.ReLU()
        )
        self.heads = nn.ModuleList(nn.Linear(_WIDTH, 2 * c) for c in channels)
        for head in self.heads:
            for parameter in head.parameters():
                nn.init.zeros_(parameter)

    def forward(self, codes: Tensor) -> list[Tensor]:
        features = self.main(codes)
        return [head(features)[..., None, None] for head in self.heads]
