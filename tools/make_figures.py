"""The pictures of README.md and docs/, made from a finished run folder (`deblurgs demo --output runs/demo`).

    python tools/make_figures.py runs/demo [--frame INDEX] [--output docs/images]

before_after.jpg: parts of two photos, as they were and sharp.
report.jpg, viewer.jpg: the run's report and the viewer in a browser, where there is a Chromium (tools/figure_pages.py).
blur_model.jpg: three instants of one exposure, what the model thinks their mean looks like, and the photo.
trajectory.jpg: the paths that points of the scene took through a photo while the shutter was open, drawn over it.
support.jpg: a photo, its restored frame and its support map.
"""

import argparse
import shutil
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from deblurgs.capture.image import read_rgb
from deblurgs.render.detail import pixel_paths
from deblurgs.render.render import frame_depth, reblurred_frame, sharp_view
from deblurgs.sfm.model import load_model
from deblurgs.stages.render import unique_stems
from deblurgs.train.checkpoint import load_scene

GRID = 9  # paths drawn along the longer side
SAMPLES = 33


def to_image(pixels: torch.Tensor) -> Image.Image:
    return Image.fromarray((pixels.clamp(0, 1) * 255 + 0.5).byte().numpy())


def labelled(panels: list[tuple[str, Image.Image]]) -> Image.Image:
    """Panels side by side, each with a caption above."""
    width, height = panels[0][1].size
    margin, caption = 6, 20
    sheet = Image.new("RGB", (len(panels) * (width + margin) - margin, height + caption), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (text, panel) in enumerate(panels):
        draw.text((i * (width + margin) + 2, 3), text, fill="black", font_size=13)
        sheet.paste(panel.resize((width, height)), (i * (width + margin), caption))
    return sheet


def before_after(pairs: list[tuple[Image.Image, Image.Image]]) -> Image.Image:
    """Photo and sharp frame side by side, a row for each pair: parts of them, twice as large."""
    rows = []
    for i, pair in enumerate(pairs):
        width, height = pair[0].size
        left, top = (width // 4, height // 4) if i == 0 else (0, height // 2)
        box = (left, top, left + width // 2, top + height // 2)
        rows.append([p.crop(box).resize((width, height), Image.Resampling.BICUBIC) for p in pair])
    sheets = [labelled([("photo", row[0]), ("sharp", row[1])]) for row in rows]
    whole = Image.new("RGB", (sheets[0].width, sum(sheet.height for sheet in sheets)), "white")
    for i, sheet in enumerate(sheets):
        whole.paste(sheet, (0, i * sheet.height))
    return whole


def trajectory_picture(observed: torch.Tensor, offsets: torch.Tensor) -> Image.Image:
    """offsets [V,H,W,2] of pixels along the exposure; a dot marks the middle of each path."""
    scale = 2
    height, width = observed.shape[:2]
    picture = to_image(observed).resize((scale * width, scale * height))
    draw = ImageDraw.Draw(picture)
    step = max(width, height) // GRID
    for y in range(step // 2, height, step):
        for x in range(step // 2, width, step):
            path = [(scale * (x + 0.5 + dx), scale * (y + 0.5 + dy)) for dx, dy in offsets[:, y, x].tolist()]
            draw.line(path, fill=(0, 0, 0), width=5)
            draw.line(path, fill=(255, 220, 0), width=2)
            at = path[len(path) // 2]
            draw.ellipse([at[0] - 4, at[1] - 4, at[0] + 4, at[1] + 4], fill=(230, 30, 30))
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--frame", type=int, help="default: the one with the longest path")
    parser.add_argument("--output", type=Path, default=Path("docs/images"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    scene, names, _ = load_scene(options.run / "checkpoint" / "scene.safetensors")
    model = load_model(options.run / "sfm")
    views = scene.num_views(model.cameras)
    f = options.frame if options.frame is not None else max(range(len(names)), key=lambda i: views[i])
    camera = model.cameras[f]
    observed = torch.from_numpy(read_rgb(Path(model.image_paths[f])))
    with torch.no_grad():
        instants = scene.trajectory(torch.tensor([f]), torch.tensor([0.0, 0.5, 1.0]))[0]
        panels = [
            (f"u = {u}", to_image(sharp_view(scene, pose, camera)))
            for u, pose in zip(("0 (opens)", "0.5", "1 (closes)"), instants, strict=True)
        ]
        panels += [
            (f"mean of {views[f]} views (reblur)", to_image(reblurred_frame(scene, f, camera, views[f]))),
            ("photo (observed)", to_image(observed)),
        ]
        labelled(panels).save(options.output / "blur_model.jpg", quality=88)
        paths = pixel_paths(scene.trajectory, f, camera, frame_depth(scene, f, camera), SAMPLES)
        offsets = torch.stack([paths.offset(view) for view in range(paths.num_views)])
        trajectory_picture(observed, offsets).save(options.output / "trajectory.jpg", quality=88)
    stem = unique_stems(names)[f]
    restored = Image.open(options.run / "renders" / "sharp" / f"{stem}.png").convert("RGB")
    support = options.run / "renders" / "support" / f"{stem}.png"
    row = [("photo", to_image(observed)), ("restored", restored)]
    if support.is_file():
        row.append(("blue: sharp here, green: from others, red: guess", Image.open(support).convert("RGB")))
    labelled(row).save(options.output / "support.jpg", quality=88)
    stems = unique_stems(names)
    longest = sorted(range(len(names)), key=lambda i: -views[i])
    pairs = [
        tuple(
            Image.open(p).convert("RGB")
            for p in (model.image_paths[i], options.run / f"renders/sharp/{stems[i]}.png")
        )
        for i in (f, next(i for i in longest if abs(i - f) > len(names) // 4))
    ]
    before_after(pairs).save(options.output / "before_after.jpg", quality=85)
    if shutil.which("chromedriver") is None:
        print("no chromedriver: report.jpg and viewer.jpg stay as they are")
        return
    from figure_pages import browser_pictures

    browser_pictures(options.run, options.output)


if __name__ == "__main__":
    main()
