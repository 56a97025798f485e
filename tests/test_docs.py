"""What docs/formats.md promises about result files must be what the code writes."""

import re
from pathlib import Path

from deblurgs.evaluate.protocol import EvaluationScene, Row
from deblurgs.evaluate.table import as_json
from deblurgs.math.lie import se3_exp
from deblurgs.scene.transform import Similarity
from deblurgs.train.data import TrainingSet

ROOT = Path(__file__).resolve().parent.parent


def test_every_field_and_word_of_the_self_check_is_documented() -> None:
    from deblurgs.render.trust import REASONS, FrameTrust
    from deblurgs.render.trust_report import as_json

    result = as_json([FrameTrust("a.png", 0.9, 0.4, 0.5, 0.1, 0.9, 0.01, 3.0, 2.0, ())])
    text = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    section = text.partition("## trust.json")[2].partition("\n## ")[0]
    documented = set(re.findall(r"`([a-z_]+)`", section))
    written = {*result, *result["frames"][0], *REASONS}
    assert written <= documented, f"undocumented: {sorted(written - documented)}"


def test_every_field_of_the_evaluation_result_is_documented() -> None:
    import torch

    scene = EvaluationScene(
        "ball", "given",
        TrainingSet([], [], [], se3_exp(torch.zeros(0, 6)), torch.zeros(0, 3), torch.zeros(0, 3), torch.zeros(0),
                    Similarity.identity()),
    )  # fmt: skip
    score = {"psnr": 1.0, "ssim": 0.5}
    row = Row(
        "plain",
        "novel",
        0,
        (3, 2),
        {"raw": score, "aligned": score, "refined": score},
        {},
        1.0,
        1.0,
        5,
        {"duty": 0.5, "readout": 0.1},
    )
    result = as_json(scene, [row], {"preset_config": {}, "failed": []})
    text = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    section = text.partition("## The result of `deblurgs eval`")[2].partition("\n## ")[0]
    documented = set(re.findall(r"`([a-z_]+)`", section))
    written = {*result, *result["machine"], *result["rows"][0], *result["rows"][0]["shutter"], *score}
    assert written <= documented, f"undocumented: {sorted(written - documented)}"
