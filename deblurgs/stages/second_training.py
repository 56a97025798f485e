"""Training once more with the frames that sharp renders of the first scene helped to find."""

import dataclasses
import shutil
from typing import TYPE_CHECKING

from deblurgs.config import TrainConfig
from deblurgs.errors import DeblurgsError
from deblurgs.run import RunFolder
from deblurgs.stages.data import training_set
from deblurgs.stages.lost_frames import find_lost_frames
from deblurgs.stages.train import Circumstances, Passage, metrics_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from deblurgs.sfm.model import SparseModel
    from deblurgs.train.data import TrainingSet
    from deblurgs.train.loop import TrainedScene

_PLAN = "plan.json"
_SCENE = "first.safetensors"


class SecondTraining:
    """It begins once `plan.json` exists in its folder: the first scene and both models are on the disk by then.

    Whatever ends it early, the first scene stays, and the model in the run folder with it.
    """

    def __init__(self, run: RunFolder, config: TrainConfig, around: Circumstances) -> None:
        self.run, self.config, self.log = run, config, around.log
        self.folder = run.checkpoint / "again"
        at_size = dataclasses.replace(config, downscale=1.0)
        self.passage = Passage(run, self.folder / "steps", at_size, around)

    @property
    def begun(self) -> bool:
        return (self.folder / _PLAN).is_file()

    def clear(self) -> None:
        """Forget it; the plan goes first, so that a half deleted folder is none."""
        (self.folder / _PLAN).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def train_if_frames_are_found(
        self, model: "SparseModel", scene: "TrainedScene", data: "TrainingSet", stop: "Callable[[], bool]"
    ) -> "tuple[TrainedScene, TrainingSet]":
        """The scene trained again with more frames; as it was if there are none or the second training fails."""
        from deblurgs.files import write_json_atomic
        from deblurgs.sfm.model import save_model
        from deblurgs.train.checkpoint import save_scene

        try:
            extended = find_lost_frames(self.run, model, scene, data.scene_from_sfm, self.log)
        except DeblurgsError as error:
            self.log.warn(f"the frames without a pose could not be looked for: {error}")
            return scene, data
        more = len(extended.names) - len(model.names)
        if more == 0:
            return scene, data
        self.log.info(f"{more} more frames have a pose now: training again with them")
        self.clear()
        for name, kept in (("before", model), ("after", extended)):
            (self.folder / name).mkdir(parents=True)
            save_model(kept, self.folder / name)
        save_scene(self.folder / _SCENE, scene, data.names, data.scene_from_sfm)
        write_json_atomic(self.folder / _PLAN, {"metrics_bytes": metrics_bytes(self.run)})
        return self._train(model, extended, scene, data, stop)

    def resume(self, stop: "Callable[[], bool]") -> "tuple[TrainedScene, TrainingSet]":
        """Go on with a second training that was killed or interrupted."""
        from deblurgs.capture.dataset import load_capture
        from deblurgs.sfm.model import load_model
        from deblurgs.train.checkpoint import load_scene

        before, after = load_model(self.folder / "before"), load_model(self.folder / "after")
        scene, _, _ = load_scene(self.folder / _SCENE)
        data = training_set(before, load_capture(self.run.path), self.config)
        return self._train(before, after, scene, data, stop)

    def _train(
        self,
        before: "SparseModel",
        after: "SparseModel",
        scene: "TrainedScene",
        data: "TrainingSet",
        stop: "Callable[[], bool]",
    ) -> "tuple[TrainedScene, TrainingSet]":
        from deblurgs.capture.dataset import load_capture
        from deblurgs.files import read_json
        from deblurgs.sfm.model import save_model

        save_model(after, self.run.sfm)
        finished = False
        try:
            second = training_set(after, load_capture(self.run.path), self.config)
            written = int(read_json(self.folder / _PLAN)["metrics_bytes"])
            again = self.passage.train(second, stop, metrics_before=written)
            finished = not stop()
            return (again, second) if finished else (scene, data)
        except DeblurgsError as error:
            self.log.warn(f"the training with more frames failed, so the first one counts: {error}")
            return scene, data
        finally:
            if not finished:
                save_model(before, self.run.sfm)
