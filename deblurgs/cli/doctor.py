"""deblurgs doctor."""

from dataclasses import dataclass


@dataclass
class Doctor:
    """What this installation can do, and why not more.

    Looks at packages, processor, memory, disk, kernels, GPU and video codecs, and says what to do where something is
    missing. Nothing is changed or downloaded. The exit code is 1 when the main job cannot run here.

    Example:
      deblurgs doctor
    """

    json: bool = False
    """Print JSON instead of text."""

    def execute(self) -> None:
        from deblurgs.doctor import doctor

        doctor(as_json=self.json)
