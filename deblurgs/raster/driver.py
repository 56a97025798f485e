"""The CUDA driver by ctypes: loads machine code into torch's context and starts kernels on torch's stream.

No CUDA toolkit and no libtorch is needed, so one package serves every CUDA build of torch. API: docs.nvidia.com/cuda,
"CUDA Driver API".
"""

import ctypes
import sys
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from deblurgs.errors import DeviceError
from deblurgs.raster.launcher import Size

_NAMES = ("nvcuda.dll",) if sys.platform == "win32" else ("libcuda.so.1", "libcuda.so")
_MAX_DYNAMIC_SHARED_BYTES = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
_SHARED_WITHOUT_ASKING = 48 * 1024
_NOT_FOUND = 500  # CUDA_ERROR_NOT_FOUND
_C_TYPES: dict[type[np.generic], type] = {
    np.int32: ctypes.c_int32,
    np.uint32: ctypes.c_uint32,
    np.int64: ctypes.c_int64,
    np.uint64: ctypes.c_uint64,
    np.float32: ctypes.c_float,
}


class Driver:
    """The loaded driver library. Every call that fails becomes a DeviceError with CUDA's own words."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        pointer, handle = ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)
        uint = ctypes.c_uint
        signatures: dict[str, list[object]] = {
            "cuInit": [uint],
            "cuDriverGetVersion": [ctypes.POINTER(ctypes.c_int)],
            "cuGetErrorName": [ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)],
            "cuGetErrorString": [ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)],
            "cuDevicePrimaryCtxRetain": [handle, ctypes.c_int],
            "cuCtxGetCurrent": [handle],
            "cuCtxPushCurrent_v2": [pointer],
            "cuCtxPopCurrent_v2": [handle],
            "cuModuleLoadData": [handle, ctypes.c_char_p],
            "cuModuleGetFunction": [handle, pointer, ctypes.c_char_p],
            "cuFuncSetAttribute": [pointer, ctypes.c_int, ctypes.c_int],
            "cuLaunchKernel": [pointer, *[uint] * 7, pointer, ctypes.POINTER(pointer), pointer],
        }
        for name, arguments in signatures.items():
            function = getattr(library, name)
            function.argtypes, function.restype = arguments, ctypes.c_int

    def version(self) -> tuple[int, int]:
        """The newest CUDA version that the driver knows, e.g. (12, 8)."""
        number = ctypes.c_int()
        self.check(
            self.library.cuDriverGetVersion(ctypes.byref(number)), "the driver does not tell its version"
        )
        return number.value // 1000, number.value % 1000 // 10

    def check(self, status: int, what: str) -> None:
        """Raise DeviceError "what: CUDA's words" unless the status says success."""
        if status == 0:
            return
        words = []
        for name in ("cuGetErrorName", "cuGetErrorString"):
            text = ctypes.c_char_p()
            if getattr(self.library, name)(status, ctypes.byref(text)) == 0 and text.value:
                words.append(text.value.decode(errors="replace"))
        raise DeviceError(f"{what}: {', '.join(words) or f'CUDA error {status}'}")


@cache
def load() -> tuple[Driver | None, str]:
    """The driver, ready for use, or None and why not, as part of a sentence. The outcome is remembered."""
    for name in _NAMES:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        try:
            driver = Driver(library)
            driver.check(library.cuInit(0), "the NVIDIA driver does not start")
            return driver, ""
        except (AttributeError, DeviceError) as error:
            return None, str(error)
    return None, f"no NVIDIA driver is installed ({_NAMES[0]} is not there)"


class DriverLauncher:
    """Starts the kernels of one cubin on one device, on the stream that torch uses there (see `launcher.Launcher`).

    Launches are asynchronous: an error inside a kernel shows at a later call. They can be captured in a CUDA graph,
    except the first one of each kernel.
    """

    def __init__(self, driver: Driver, device: torch.device, cubin: bytes) -> None:
        """device: with an index. Raises DeviceError when the device does not take the code."""
        self._driver, self._device = driver, device
        index = 0 if device.index is None else device.index
        self._context = ctypes.c_void_p()
        # torch works in the primary context too, so its tensors are valid here. It is kept until the process ends.
        driver.check(
            driver.library.cuDevicePrimaryCtxRetain(ctypes.byref(self._context), index),
            f"{device} cannot be used",
        )
        self._module = ctypes.c_void_p()
        self._functions: dict[str, ctypes.c_void_p] = {}
        self._shared: dict[str, int] = {}
        with _Current(driver, self._context):
            driver.check(
                driver.library.cuModuleLoadData(ctypes.byref(self._module), cubin),
                f"{device} does not take the compiled kernels",
            )

    @property
    def device(self) -> torch.device:
        return self._device

    def launch(
        self,
        kernel: str,
        grid: Size,
        block: Size,
        arguments: "Sequence[Tensor | np.generic | None]",
        *,
        shared_bytes: int = 0,
    ) -> None:
        """See `launcher.Launcher.launch`."""
        if 0 in grid:
            return  # CUDA refuses an empty grid, and there is nothing to do
        values = [self._value(kernel, position, argument) for position, argument in enumerate(arguments)]
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        stream = torch.cuda.current_stream(self._device).cuda_stream
        with _Current(self._driver, self._context):
            function = self._function(kernel)
            if shared_bytes > max(_SHARED_WITHOUT_ASKING, self._shared.get(kernel, 0)):
                self._driver.check(
                    self._driver.library.cuFuncSetAttribute(
                        function, _MAX_DYNAMIC_SHARED_BYTES, shared_bytes
                    ),
                    f"kernel {kernel} cannot have {shared_bytes} bytes of shared memory on {self._device}",
                )
                self._shared[kernel] = shared_bytes
            status = self._driver.library.cuLaunchKernel(
                function, *grid, *block, shared_bytes, stream, pointers, None
            )
            self._driver.check(
                status, f"kernel {kernel} did not start on {self._device} (grid {grid}, block {block})"
            )

    def _function(self, kernel: str) -> ctypes.c_void_p:
        found = self._functions.get(kernel)
        if found is None:
            found = ctypes.c_void_p()
            status = self._driver.library.cuModuleGetFunction(
                ctypes.byref(found), self._module, kernel.encode()
            )
            if status == _NOT_FOUND:
                raise DeviceError(f"there is no kernel {kernel} in the compiled code for {self._device}")
            self._driver.check(status, f"kernel {kernel} cannot be looked up")
            self._functions[kernel] = found
        return found

    def _value(
        self, kernel: str, position: int, argument: "Tensor | np.generic | None"
    ) -> "ctypes._SimpleCData":
        """An argument as the C value that CUDA copies into the kernel's parameters."""
        if argument is None:
            return ctypes.c_void_p()
        if isinstance(argument, Tensor):
            if argument.device != self._device:
                raise ValueError(
                    f"{kernel}, argument {position}: on {argument.device}, not on {self._device}"
                )
            if not argument.is_contiguous():
                raise ValueError(f"{kernel}, argument {position}: the tensor must be contiguous")
            return ctypes.c_void_p(argument.data_ptr() if argument.numel() else None)
        c_type = _C_TYPES.get(type(argument))
        if c_type is None:
            raise TypeError(
                f"{kernel}, argument {position}: a tensor, None or a NumPy int32, uint32, int64, uint64 or float32 "
                f"is expected, not {type(argument).__name__}"
            )
        return c_type(argument.item())


class _Current:
    """Makes a context current in this thread for a while, as autograd's threads need; torch's device stays as it is."""

    def __init__(self, driver: Driver, context: ctypes.c_void_p) -> None:
        self.driver, self.context, self.pushed = driver, context, False

    def __enter__(self) -> None:
        library, now = self.driver.library, ctypes.c_void_p()
        self.driver.check(library.cuCtxGetCurrent(ctypes.byref(now)), "the current context is unknown")
        if now.value != self.context.value:
            self.driver.check(library.cuCtxPushCurrent_v2(self.context), "the GPU's context cannot be used")
            self.pushed = True

    def __exit__(self, *error: object) -> None:
        if self.pushed:
            self.driver.library.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
