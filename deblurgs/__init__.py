"""deblurgs: sharp frames, a sharp video and a splat file from blurry hand-held footage.

Importing the package loads nothing heavy: torch, pycolmap and the native kernels load where they are used.
"""

__version__ = "0.1.0"
