"""Synthetic captures with exact truth: blurred frames, sharp twins, held-out views, poses and shutter times.

The pure modules (poses, shake, shutter, sensor, textures, plan, manifest) need numpy and Pillow only; `blender` and
`layouts` need Blender's `bpy`. Nothing here uses the package `deblurgs`' maths: truth that shares code with what it
tests would share its faults. ../README.md tells how to make captures.
"""
