"""How much must speak for lens distortion before it is believed."""

DISTORTION_EVIDENCE = 25.0
"""Increase of the squared error per degree of freedom, in units of its variance. Measured: 4 to 11 on blurred frames
without distortion, 86 and more with (k = 0.06 to 0.09)."""
