"""deblurgs doctor."""

from dataclasses import dataclass


@dataclass
class Doctor:
    """What this installation can do, and why not more."""

    json: bool = False
    """Print JSON instead of text."""

    def execute(self) -> None:
        from deblurgs.doctor import doctor

        doctor(as_json=self.json)
