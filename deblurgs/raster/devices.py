"""Where to compute: "auto", "cpu" or "cuda" as the user says it, and the kernels' launcher of every GPU."""

from functools import cache
from typing import TYPE_CHECKING, Literal

from deblurgs.errors import DeviceError, UsageError

if TYPE_CHECKING:
    import torch

    from deblurgs.raster.launcher import Launcher

DeviceName = Literal["auto", "cpu", "cuda"]


def resolve(name: DeviceName) -> "torch.device":
    """The device that `name` means on this machine; "auto" is a GPU where one can be used, else the CPU.

    Raises UsageError, with the reason, when "cuda" is asked for and cannot be had.
    """
    import torch

    if name == "cpu":
        return torch.device("cpu")
    reason = why_no_gpu()
    if reason is None:
        return torch.device("cuda", torch.cuda.current_device())
    if name == "cuda":
        raise UsageError(
            f"--device cuda cannot be had: {reason}. `deblurgs doctor` tells more; --device cpu works everywhere."
        )
    return torch.device("cpu")


def require(name: DeviceName) -> None:
    """Refuse "cuda" where it cannot be had before any work is begun; costs nothing for the other names."""
    if name == "cuda":
        resolve(name)


def why_no_gpu() -> str | None:
    """None when rendering and training can run on a GPU here, else the reason, as part of a sentence."""
    reason = why_no_cuda()
    if reason is not None:
        return reason
    import torch

    from deblurgs.raster.gsplat import GsplatBackend

    launcher, reason = launcher_for(torch.cuda.current_device())
    return None if launcher is not None or GsplatBackend().available() is None else reason


def why_no_cuda() -> str | None:
    """None when torch can use a GPU here, else the reason, as part of a sentence."""
    import torch

    if torch.version.cuda is None:
        return f"this torch ({torch.__version__}) is a build without CUDA"
    if not torch.cuda.is_available():
        from deblurgs.raster import driver

        _, reason = driver.load()
        return reason or "torch finds no NVIDIA GPU"
    return None


@cache
def launcher_for(index: int) -> "tuple[Launcher | None, str]":
    """The launcher of GPU number `index` and the way its kernels came about, or None and why it has none.

    The outcome is remembered, failures included.
    """
    reason = why_no_cuda()
    if reason is not None:
        return None, reason
    import torch

    from deblurgs.raster import cubins, driver

    loaded, reason = driver.load()
    if loaded is None:
        return None, reason
    try:
        torch.cuda.init()
        capability, device = torch.cuda.get_device_capability(index), torch.device("cuda", index)
        kernels = cubins.find(capability, torch.version.cuda)
        try:
            return driver.DriverLauncher(loaded, device, kernels.cubin), kernels.origin
        except DeviceError as error:
            if not kernels.origin.startswith(cubins.PREBUILT):
                raise
            kernels = cubins.find(capability, torch.version.cuda, refused=str(error))
        return driver.DriverLauncher(loaded, device, kernels.cubin), kernels.origin
    except (DeviceError, RuntimeError, OSError) as error:  # "auto" goes on without a GPU whatever fails
        return None, str(error)
