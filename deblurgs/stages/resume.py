"""A run from where it stopped, with the settings that its folder remembers."""

from deblurgs.command import command_line
from deblurgs.errors import UsageError
from deblurgs.log import Log
from deblurgs.run import RunFolder, StageStatus
from deblurgs.stages.observe import MonitorName, watching
from deblurgs.stages.render import render
from deblurgs.stages.report import report, where_to_look
from deblurgs.stages.request import read_request
from deblurgs.stages.single import process_or_restore
from deblurgs.stages.train import train


def resume(
    run: RunFolder,
    log: Log,
    *,
    viewer: bool = False,
    viewer_port: int = 8080,
    monitors: tuple[MonitorName, ...] = (),
) -> None:
    """All stages that are not done yet: frames, cameras, training, pictures, report. The rest: see `watching`.

    Raises UsageError when the folder does not say what to do, or when its source is needed and not there any more.
    """
    request = read_request(run)
    if any(run.status(stage) != StageStatus.DONE for stage in ("capture", "sfm")):
        source = request.source
        if source is None or not source.exists():
            where = "is not known" if source is None else f"{source} is not there any more"
            raise UsageError(
                f"{run.path}: frames or cameras are not finished, and the source {where}. Repeat  "
                f"{command_line('run', 'SOURCE', '--output', run.path)}  with it."
            )
        if not process_or_restore(
            run, source, request.process, log, fallback=request.fallback, device=request.device
        ):
            log.info(f"to look at in a browser: {report(run, log)}")
            return
    if request.train is None:
        log.info("frames and cameras are finished; no training was asked for")
        return
    with watching(run, log, viewer=viewer, port=viewer_port, monitors=monitors) as observers:
        train(
            run, request.train, log, checkpoint_every=request.checkpoint_every, device=request.device,
            observers=observers,
        )  # fmt: skip
        render(run, log, device=request.device, fallback=request.fallback == "single")
        page = report(run, log)
    log.info(where_to_look(run, page))
