"""What a rasterizer backend is, how one is chosen, and the one check of arguments that all of them share."""

import os
import warnings
from functools import cache
from typing import TYPE_CHECKING, Protocol, cast, get_args

from deblurgs.errors import UsageError
from deblurgs.raster.api import BackendName, Rendered, ScreenStatistics

if TYPE_CHECKING:
    from torch import Tensor

    from deblurgs.scene.camera import Camera


class Backend(Protocol):
    """One way of computing `deblurgs.raster.api.render_exposure`; its docstring there is the contract.

    Implementations call `check_inputs` first, so that every backend refuses the same things with the same
    words.
    """

    @property
    def name(self) -> str: ...

    def available(self) -> str | None:
        """None when it can be used here, else the reason why not, as one sentence without a full stop."""
        ...

    def render_exposure(
        self,
        means: "Tensor",
        quats: "Tensor",
        scales: "Tensor",
        opacities: "Tensor",
        sh0: "Tensor",
        shN: "Tensor",
        viewmats: "Tensor",
        weights: "Tensor",
        camera: "Camera",
        *,
        background: "Tensor | None" = None,
        sh_degree: int | None = None,
        linear_mean: bool = True,
        antialiased: bool = False,
        statistics: ScreenStatistics | None = None,
    ) -> Rendered: ...


_INSTEAD = {
    "cpu": "Install a wheel that matches this machine, or choose the backend 'reference', which is slow",
    "cuda": "`deblurgs doctor` tells more; --device cpu works everywhere",
    "gsplat": "Choose another backend, or 'auto'",
}


def choose(name: BackendName, means: "Tensor") -> Backend:
    """The backend called `name`, or the fastest one that can work on tensors like `means` for "auto".

    $DEBLURGS_BACKEND takes the place of "auto" for tensors on a GPU. Raises UsageError when a backend asked for by name
    cannot run on this machine, ValueError for an unknown name.
    """
    known = get_args(BackendName)
    if name == "auto" and means.device.type == "cuda":
        wish = os.environ.get("DEBLURGS_BACKEND") or "auto"
        if wish not in known:
            raise UsageError(f"DEBLURGS_BACKEND={wish}: one of {', '.join(known)} is expected")
        name = cast(BackendName, wish)
    if name == "auto":
        return _fastest(means)
    if name not in known:
        raise ValueError(f"backend must be one of {', '.join(map(repr, known))}, got {name!r}")
    backend, reason = _named(name, means)
    if backend is None:
        raise UsageError(f"The {name} rasterizer cannot be used: {reason}. {_INSTEAD[name]}.")
    return backend


def _named(name: str, means: "Tensor") -> tuple[Backend | None, str]:
    if name == "reference":
        return _reference(), ""
    if name == "cpu":
        return _cpu()
    if name == "gsplat":
        return _gsplat()
    return _cuda(means.device.index or 0) if means.device.type == "cuda" else _cuda(0)


def _fastest(means: "Tensor") -> Backend:
    import torch

    candidates = {"cpu": ("cpu",), "cuda": ("cuda", "gsplat")}.get(means.device.type, ())
    reasons = []
    if means.dtype != torch.float32 or not candidates:
        reasons.append(
            f"the compiled ones work on float32 tensors of the CPU or a GPU, not {means.dtype} on {means.device}"
        )
        candidates = ()
    for name in candidates:
        backend, reason = _named(name, means)
        if backend is not None:
            return backend
        reasons.append(reason)
    # Python's default filter shows a warning once per place, which is what a render in a loop needs.
    warnings.warn(f"Using the slow reference rasterizer: {'; '.join(reasons)}.", RuntimeWarning, stacklevel=2)
    return _reference()


@cache
def _reference() -> Backend:
    from deblurgs.raster.reference import ReferenceBackend

    return ReferenceBackend()


@cache
def _cpu() -> tuple[Backend | None, str]:
    """The compiled backend, or None and the reason why it cannot be used."""
    try:
        from deblurgs.raster.cpu import CpuBackend
    except ImportError as error:
        return None, f"its module does not import ({error})"
    backend = CpuBackend()
    reason = backend.available()
    return (backend, "") if reason is None else (None, reason)


@cache
def _cuda(index: int) -> tuple[Backend | None, str]:
    """Our kernels on GPU number `index`, or None and the reason why they cannot be used."""
    from deblurgs.raster.devices import launcher_for

    launcher, reason = launcher_for(index)
    if launcher is None:
        return None, reason
    from deblurgs.raster.cuda import CudaBackend

    return CudaBackend(launcher, one_order=os.environ.get("DEBLURGS_ONE_ORDER") == "1"), ""


@cache
def _gsplat() -> tuple[Backend | None, str]:
    from deblurgs.raster.gsplat import GsplatBackend

    backend = GsplatBackend()
    reason = backend.available()
    return (backend, "") if reason is None else (None, reason)


def finish(means: "Tensor") -> None:
    """Wait for what a GPU has not reported yet: raises or warns about the last exposures of tensors like `means`."""
    if means.device.type == "cuda":
        reported = getattr(choose("auto", means), "finish", None)
        if reported is not None:
            reported()


def check_inputs(
    means: "Tensor",
    quats: "Tensor",
    scales: "Tensor",
    opacities: "Tensor",
    sh0: "Tensor",
    shN: "Tensor",
    viewmats: "Tensor",
    weights: "Tensor",
    camera: "Camera",
    background: "Tensor | None",
    sh_degree: int | None,
    *,
    wait_for_poses: bool = True,
) -> int:
    """Check shapes, dtypes, devices and poses; returns the SH degree to use (`sh_degree`, or the stored one
    for None).

    Raises ValueError that begins with the name of the argument at fault. Values of Gaussians are not looked
    at: non-finite ones are dropped by the backends. A non-finite pose is refused here, by the index of its
    view; not without `wait_for_poses`, because looking at numbers on a GPU means waiting for it.
    """
    from deblurgs.math.sh import degree_from_count

    if not means.is_floating_point():
        raise ValueError(f"means: floating dtype expected, got {means.dtype}")
    num_gaussians = means.shape[0] if means.ndim == 2 else -1
    num_views = viewmats.shape[0] if viewmats.ndim == 3 else -1
    expected: dict[str, tuple[Tensor, tuple[int | str, ...]]] = {
        "means": (means, ("N", 3)),
        "quats": (quats, (num_gaussians, 4)),
        "scales": (scales, (num_gaussians, 3)),
        "opacities": (opacities, (num_gaussians,)),
        "sh0": (sh0, (num_gaussians, 1, 3)),
        "shN": (shN, (num_gaussians, "K-1", 3)),
        "viewmats": (viewmats, ("V", 4, 4)),
        "weights": (weights, (num_views,)),
    }
    if background is not None:
        expected["background"] = (background, (3,))
    for name, (tensor, shape) in expected.items():
        if tensor.ndim != len(shape) or any(
            isinstance(want, int) and have != want for have, want in zip(tensor.shape, shape, strict=True)
        ):
            wanted = ",".join(str(size) for size in shape)
            raise ValueError(f"{name}: shape [{wanted}] expected, got {list(tensor.shape)}")
        if tensor.dtype != means.dtype:
            raise ValueError(f"{name}: dtype {means.dtype} of means expected, got {tensor.dtype}")
        if tensor.device != means.device:
            raise ValueError(f"{name}: device {means.device} of means expected, got {tensor.device}")
    if num_views < 1:
        raise ValueError("viewmats: at least one view expected, got none")
    if camera.width < 1 or camera.height < 1 or not (camera.fx > 0 and camera.fy > 0):
        raise ValueError(f"camera: positive size and focal lengths expected, got {camera}")
    try:
        stored_degree = degree_from_count(1 + shN.shape[1])
    except ValueError:
        raise ValueError(
            f"shN: shape [N,K-1,3] with K-1 of 0, 3, 8 or 15 expected, got {list(shN.shape)}"
        ) from None
    if sh_degree is not None and not 0 <= sh_degree <= stored_degree:
        raise ValueError(f"sh_degree: 0..{stored_degree} (the stored degree) expected, got {sh_degree}")
    degree = stored_degree if sh_degree is None else sh_degree
    if not wait_for_poses:
        return degree
    finite = viewmats.detach()[:, :3].isfinite().flatten(1).all(1)
    if not bool(finite.all()):
        view_idx = int((~finite).nonzero()[0])
        raise ValueError(f"viewmats: view {view_idx} of {num_views} contains a non-finite number")
    return degree
