"""The stages of a run. Each reads files of the run folder, writes files into it, and can be repeated on its own.

process (capture, sfm) -> train -> render (pictures, video, PLY). `evaluate` uses the first and its own training.
"""
