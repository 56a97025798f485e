"""Training once more with the frames that sharp renders of the first scene helped to find."""

import dataclasses
import shutil
from typing import TYPE_CHECKING

from deblurgs.config import TrainConfig
from deblurgs.errors import DeblurgsError
from deblurgs.run import RunFolder
from deblurgs.stages.data import training_set
from deblurgs.stages.lost_frames import find_lost_frames
from deblurgs.stages.train import PARTIAL_FILE, Circumstances, Passage, metrics_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from deblurgs.sfm.model import SparseModel
    from deblurgs.train.data import TrainingSet
    from deblurgs.train.trained import TrainedScene

_PLAN = "plan.json"
_SCENE = "first.safetensors"
_REPORT = "sfm.json"


class SecondTraining:
    """It begins once `plan.json` exists in its folder: the first scene and both models are on the disk by then.

    Whatever ends it early, the first scene stays, and the model in the run folder with it: the model as it was is kept
    in `before` from the moment at which frames are looked for. Without a plan beside it, the search was cut off; then
    it is put back as soon as the next training asks, since no checkpoint of the first training fits another model.
    """

    def __init__(self, run: RunFolder, config: TrainConfig, around: Circumstances) -> None:
        self.run, self.config, self.log = run, config, around.log
        self.folder = run.checkpoint / "again"
        at_size = dataclasses.replace(config, downscale=1.0)
        self.passage = Passage(run, self.folder / "steps", at_size, around)
        self._undo_cut_off_search()

    @property
    def begun(self) -> bool:
        return (self.folder / _PLAN).is_file()

    def clear(self) -> None:
        """Forget it; renamed first, so that a half deleted folder is none."""
        forgotten = self.folder.with_name(f"{self.folder.name}.forgotten")
        shutil.rmtree(forgotten, ignore_errors=True)
        if self.folder.is_dir():
            self.folder.rename(forgotten)
            shutil.rmtree(forgotten, ignore_errors=True)

    def train_if_frames_are_found(
        self, model: "SparseModel", scene: "TrainedScene", data: "TrainingSet", stop: "Callable[[], bool]"
    ) -> "tuple[TrainedScene, TrainingSet]":
        """The scene trained again with more frames; as it was if there are none or the second training fails."""
        from deblurgs.files import write_json_atomic
        from deblurgs.train.checkpoint import save_scene

        if not model.failed:
            return scene, data
        self.clear()
        try:
            self._keep("before", model)
            self._forget_interrupted()
            extended = find_lost_frames(self.run, model, scene, data.scene_from_sfm, self.log)
            more = len(extended.names) - len(model.names)
            if more:
                self._keep("after", extended)
                save_scene(self.folder / _SCENE, scene, data.names, data.scene_from_sfm)
                write_json_atomic(self.folder / _PLAN, {"metrics_bytes": metrics_bytes(self.run)})
        except DeblurgsError as error:
            self.log.warn(f"the frames without a pose could not be looked for: {error}")
            self._undo_cut_off_search()
            return scene, data
        if not more:
            self.clear()
            return scene, data
        self.log.info(f"{more} more frames have a pose now: training again with them")
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

        self._forget_interrupted()
        self._put("after", after)
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
                self._put("before", before)

    def _keep(self, name: str, model: "SparseModel") -> None:
        """A copy of a model, and of the report that is beside it in the run folder now."""
        from deblurgs.files import write_bytes_atomic
        from deblurgs.sfm.model import save_model

        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        report = self.run.sfm / _REPORT
        if report.is_file():
            write_bytes_atomic(folder / _REPORT, report.read_bytes())
        save_model(model, folder)

    def _put(self, name: str, model: "SparseModel") -> None:
        """Make a kept model and its report those of the run folder."""
        from deblurgs.files import write_bytes_atomic
        from deblurgs.sfm.model import save_model

        save_model(model, self.run.sfm)
        report = self.folder / name / _REPORT
        if report.is_file():  # folders of older versions keep none
            write_bytes_atomic(self.run.sfm / _REPORT, report.read_bytes())

    def _undo_cut_off_search(self) -> None:
        """Put the model back that was there before a search that did not come to a plan, and forget the search."""
        import numpy as np

        from deblurgs.sfm.model import MODEL_FILE, load_model

        kept = self.folder / "before"
        if self.begun:
            return
        if (kept / MODEL_FILE).is_file():
            before, now = load_model(kept), load_model(self.run.sfm)
            # SfM may have been repeated since; a search only adds frames.
            if set(before.names) <= set(now.names) and np.array_equal(before.points, now.points):
                self._put("before", before)
        self.clear()

    def _forget_interrupted(self) -> None:
        """What an interrupted training had reached belongs to the model as it was, not to one with more frames."""
        (self.run.checkpoint / PARTIAL_FILE).unlink(missing_ok=True)
