"""Weights of MIMO-UNet in files: ours (safetensors) and the authors' published checkpoints (.pkl).

Files come from strangers: a pickle is read only as tensors (`weights_only`), never as a program, and the names
and shapes decide which network a file belongs to, before anything is built.
"""

import json
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from zipfile import BadZipFile

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from deblurgs.errors import CaptureError
from deblurgs.files import atomic_path
from deblurgs.restore.mimo_unet import MimoConfig, MimoUNet

SHIPPED = Path(__file__).parent / "data" / "mimo_thin.safetensors"
MAX_BYTES = 512 * 2**20
_MAX_BLOCKS = 64
_MAX_WIDTH = 256
_STEM = "feat_extract.0.main.0.weight"


def load_network(path: Path | None = None) -> MimoUNet:
    """The network of a .safetensors file or of an official checkpoint; None: the weights that ship.

    Width and number of blocks are read from the tensors; fp16 and bf16 become float32. Raises CaptureError when
    the file is missing, damaged, too large or holds anything but one MIMO-UNet's finite tensors.
    """
    file = SHIPPED if path is None else path
    state = read_state(file)
    config = infer_config(state, file)
    with torch.device("meta"):
        network = MimoUNet(config)
    _check_tensors(state, network.state_dict(), file)
    network.load_state_dict(state, assign=True)
    return network.requires_grad_(False).eval()


def read_state(path: Path) -> dict[str, Tensor]:
    """The float32 tensors of a weights file by name, without a `module.` prefix. Raises CaptureError."""
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise CaptureError(
                f"{path} is not a file. Name a .safetensors file or an official MIMO-UNet .pkl."
            )
        if not 0 < size <= MAX_BYTES:
            raise CaptureError(
                f"{path} has {size} bytes; weights have between 1 and {MAX_BYTES}. It is not a MIMO-UNet file."
            )
        raw = _safetensors(path) if path.suffix == ".safetensors" else _checkpoint(path)
    except OSError as error:
        raise CaptureError(f"cannot read the weights {path}: {error.strerror or error}") from error
    state: dict[str, Tensor] = {}
    for name, value in raw.items():
        if not isinstance(name, str) or not isinstance(value, Tensor) or not value.is_floating_point():
            raise CaptureError(f"{path} holds more than named floating-point tensors ({name!r}); not used.")
        state[name.removeprefix("module.")] = value.detach().to("cpu", torch.float32).contiguous()
    return state


def infer_config(state: Mapping[str, Tensor], path: Path) -> MimoConfig:
    """Width from the first convolution, blocks = 1 + the largest block index. Raises CaptureError."""
    stem = state.get(_STEM)
    if stem is None or stem.ndim != 4 or tuple(stem.shape[1:]) != (3, 3, 3):
        raise CaptureError(
            f"{path} holds no MIMO-UNet (there is no {_STEM} [width,3,3,3]). Name another file."
        )
    indices = [int(m[1]) for m in (re.match(r"Encoder\.0\.layers\.(\d{1,4})\.", name) for name in state) if m]
    blocks, width = 1 + max(indices, default=-1), int(stem.shape[0])
    if not 1 <= blocks <= _MAX_BLOCKS or not 4 <= width <= _MAX_WIDTH or width % 2:
        raise CaptureError(f"{path} holds no usable MIMO-UNet: width {width}, {blocks} blocks.")
    return MimoConfig(width, blocks, guided=any(name.startswith("guide.") for name in state))


def save_weights(path: Path, network: MimoUNet, *, notes: Mapping[str, object], half: bool = True) -> None:
    """Write the network as safetensors (fp16 unless `half` is off), atomically, with notes in its header."""
    kind = torch.float16 if half else torch.float32
    state = {
        name: value.detach().to("cpu", kind).contiguous() for name, value in network.state_dict().items()
    }
    with atomic_path(path) as temporary:
        save_file(state, temporary, {"deblurgs": json.dumps(dict(notes), sort_keys=True)})


def read_notes(path: Path) -> dict[str, object]:
    """What `save_weights` noted about the training; empty when the file carries nothing. Raises CaptureError."""
    try:
        with safe_open(path, "pt") as file:
            notes = json.loads((file.metadata() or {}).get("deblurgs", "{}"))
    except (OSError, SafetensorError, ValueError) as error:
        raise CaptureError(f"cannot read the weights {path}: {error}") from error
    return notes if isinstance(notes, dict) else {}


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except SafetensorError as error:
        raise CaptureError(
            f"{path} is damaged or not a safetensors file ({error}). Copy it again; nothing in it was executed."
        ) from error


def _checkpoint(path: Path) -> Mapping[object, object]:
    """`{'model': state_dict}` or a bare state_dict, as torch.save writes it (both of its formats)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd pickles; what comes out is checked
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, BadZipFile) as error:
        # Only the first sentence: what torch adds is advice to programmers, how to read the file unsafely.
        reason = re.split(r"\.\s", str(error).strip())[0].splitlines()[:1] or [type(error).__name__]
        raise CaptureError(
            f"{path} is damaged or holds more than tensors ({reason[0][:160]}). It was refused and nothing in it was "
            "executed; use an official MIMO-UNet checkpoint or a .safetensors file."
        ) from error
    if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        content = content["model"]
    if not isinstance(content, Mapping) or not content:
        raise CaptureError(f"{path} holds no state_dict of a network. Name another file.")
    return content


def _check_tensors(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path) -> None:
    missing, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or extra:
        what = f"lacks {missing[0]}" if missing else f"has the unknown {extra[0]}"
        raise CaptureError(
            f"{path} is not a MIMO-UNet: it {what} ({len(missing)} missing, {len(extra)} unknown tensors)."
        )
    for name, tensor in expected.items():
        if state[name].shape != tensor.shape:
            raise CaptureError(
                f"{path}: {name} has shape {list(state[name].shape)}, expected {list(tensor.shape)}."
            )
        if not torch.isfinite(state[name]).all():
            raise CaptureError(f"{path}: {name} holds numbers that are not finite; the file is damaged.")
