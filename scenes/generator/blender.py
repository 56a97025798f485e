"""The only door to Blender: meshes with textures, and Cycles renders of linear light along a camera path.

Cycles averages the scene over the camera's motion within one frame, in linear light. Its rolling shutter, "top", lets
row r be open for `rolling_shutter_duration` of the frame's time, centred at 0.5 + (row centre - 0.5) * (1 - that
share): exactly the convention of shutter.py. tests/scenes/test_scenes_render.py compares both with explicit sums.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import bpy
import mathutils
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_CAMERA_FROM_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])
_FRAME = 10


class Studio:
    """An empty Blender scene with a sun, a constant sky and one camera."""

    def __init__(
        self, width: int, height: int, focal_px: float, samples: int, threads: int,
        sun: tuple[float, float, float] = (0.9, 0.1, 0.5), sun_strength: float = 3.0,
        sky: tuple[float, float, float] = (0.75, 0.87, 1.0), sky_strength: float = 0.7,
    ) -> None:  # fmt: skip
        """sun: Euler angles in rad of the lamp. samples: paths per pixel."""
        bpy.ops.wm.read_factory_settings(use_empty=True)
        bpy.context.preferences.edit.keyframe_new_interpolation_type = "LINEAR"
        self.width, self.height, self.sky_strength = width, height, sky_strength
        self.scene = bpy.context.scene
        self._settings(samples, threads)
        lamp = bpy.data.lights.new("sun", "SUN")
        lamp.energy, lamp.angle = sun_strength, 0.03
        self._link("sun", lamp).rotation_euler = sun
        world = bpy.data.worlds.new("sky")
        self.scene.world = world
        world.use_nodes = True
        background = world.node_tree.nodes["Background"]
        background.inputs["Color"].default_value = (*sky, 1.0)
        background.inputs["Strength"].default_value = sky_strength
        world.cycles.sampling_method = "NONE"  # seen by the camera only
        world.cycles_visibility.diffuse = world.cycles_visibility.glossy = False
        lens = bpy.data.cameras.new("camera")
        lens.sensor_fit, lens.sensor_width = "HORIZONTAL", 36.0
        lens.lens = focal_px * 36.0 / width
        lens.clip_start = 0.05
        self.camera = self._link("camera", lens)
        self.camera.rotation_mode = "QUATERNION"
        self.scene.camera = self.camera
        self._folder = tempfile.TemporaryDirectory(prefix="make-scenes-")

    def close(self) -> None:
        self._folder.cleanup()

    # Materials

    def material(
        self,
        texture: NDArray[np.uint8],
        *,
        metres: float | None = None,
        projection: str = "BOX",
        gloss: float = 0.0,
    ) -> "bpy.types.Material":
        """A matt surface with a texture (sRGB [H,W,3]).

        metres: size of one repetition in the object's own units; None lays the texture once over each side of the
        object. projection: BOX, SPHERE, TUBE, or UV (for sheets). gloss: 0 matt to 1 polished.
        """
        height, width = texture.shape[:2]
        image = bpy.data.images.new("texture", width, height)
        rgba = np.ones((height, width, 4), np.float32)
        rgba[..., :3] = texture[::-1].astype(np.float32) / 255.0
        image.pixels.foreach_set(rgba.ravel())
        image.pack()
        made = bpy.data.materials.new("surface")
        made.use_nodes = True
        nodes, links = made.node_tree.nodes, made.node_tree.links
        sampler = nodes.new("ShaderNodeTexImage")
        sampler.image = image
        place = nodes.new("ShaderNodeTexCoord")
        scale = nodes.new("ShaderNodeMapping")
        if metres is not None:
            scale.inputs["Scale"].default_value = (1 / metres,) * 3
        kind = "UV" if projection == "UV" else "Object" if metres is not None else "Generated"
        links.new(place.outputs[kind], scale.inputs["Vector"])
        links.new(scale.outputs["Vector"], sampler.inputs["Vector"])
        if projection != "UV":
            sampler.projection = projection
        self._shade(made, sampler.outputs["Color"], gloss)
        return made

    def _shade(self, material: "bpy.types.Material", colour: "bpy.types.NodeSocket", gloss: float) -> None:
        """Sunlight with shadows, plus skylight that depends on the normal only: colour * sky * (1 + n_z) / 2, from
        black earth to a bright sky. Without a sampled sky an image needs a quarter of the light paths.
        """
        nodes, links = material.node_tree.nodes, material.node_tree.links
        nodes.remove(nodes["Principled BSDF"])
        matt, ambient, total = (
            nodes.new(f"Shader{kind}") for kind in ("NodeBsdfDiffuse", "NodeEmission", "NodeAddShader")
        )
        links.new(colour, matt.inputs["Color"])
        links.new(colour, ambient.inputs["Color"])
        geometry, upward, share = (
            nodes.new(f"ShaderNode{kind}") for kind in ("NewGeometry", "VectorMath", "Math")
        )
        upward.operation = "DOT_PRODUCT"
        upward.inputs[1].default_value = (
            0.15,
            -0.25,
            0.6,
        )  # the open side of the room is brighter than its back
        share.operation = "MULTIPLY_ADD"
        share.inputs[1].default_value, share.inputs[2].default_value = (
            0.5 * self.sky_strength,
            0.5 * self.sky_strength,
        )
        links.new(geometry.outputs["Normal"], upward.inputs[0])
        links.new(upward.outputs["Value"], share.inputs[0])
        links.new(share.outputs["Value"], ambient.inputs["Strength"])
        links.new(matt.outputs["BSDF"], total.inputs[0])
        links.new(ambient.outputs["Emission"], total.inputs[1])
        result = total
        if gloss:
            polish, result = nodes.new("ShaderNodeBsdfGlossy"), nodes.new("ShaderNodeAddShader")
            polish.inputs["Color"].default_value = (0.06 * gloss, 0.06 * gloss, 0.06 * gloss, 1.0)
            polish.inputs["Roughness"].default_value = 0.4
            links.new(total.outputs["Shader"], result.inputs[0])
            links.new(polish.outputs["BSDF"], result.inputs[1])
        links.new(result.outputs["Shader"], nodes["Material Output"].inputs["Surface"])
        material.cycles.emission_sampling = "NONE"  # it stands for the sky and must not light its neighbours

    # Shapes. `at` is the centre of the bottom, so that things stand on what they are put on.

    def box(
        self, material: "bpy.types.Material", size: Sequence[float], at: Sequence[float], turn_deg: float = 0.0,
        tilt_deg: float = 0.0,
    ) -> "bpy.types.Object":  # fmt: skip
        """turn: about the vertical; tilt: sideways, about y."""
        x, y, z = (s / 2 for s in size)
        corners = [(i * x, j * y, (k + 1) * z) for k in (-1, 1) for j in (-1, 1) for i in (-1, 1)]
        faces = [(0, 2, 3, 1), (4, 5, 7, 6), (0, 1, 5, 4), (2, 6, 7, 3), (0, 4, 6, 2), (1, 3, 7, 5)]
        return self.mesh(material, corners, faces, at, (0.0, np.deg2rad(tilt_deg), np.deg2rad(turn_deg)))

    def sheet(
        self, material: "bpy.types.Material", size: Sequence[float], at: Sequence[float], *, turn_deg: float = 0.0,
        upright: bool = False, lean_deg: float = 0.0,
    ) -> "bpy.types.Object":  # fmt: skip
        """A picture of size (width, height): lying, or upright facing negative y and leaning back; needs UV."""
        w, h = size[0] / 2, size[1]
        corners = (
            [(-w, 0, 0), (w, 0, 0), (w, 0, h), (-w, 0, h)]
            if upright
            else [(-w, -h / 2, 0), (w, -h / 2, 0), (w, h / 2, 0), (-w, h / 2, 0)]
        )
        made = self.mesh(
            material, corners, [(0, 1, 2, 3)], at, (-np.deg2rad(lean_deg), 0.0, np.deg2rad(turn_deg))
        )
        layer = made.data.uv_layers.new(name="sheet")
        layer.data.foreach_set("uv", [0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0])
        return made

    def lathe(
        self, material: "bpy.types.Material", profile: Sequence[tuple[float, float]], at: Sequence[float],
        turn_deg: float = 0.0, segments: int = 40,
    ) -> "bpy.types.Object":  # fmt: skip
        """A turned body: (radius, height) from bottom to top."""
        angles = np.linspace(0, 2 * np.pi, segments, endpoint=False)
        corners = [(r * np.cos(a), r * np.sin(a), z) for r, z in profile for a in angles]
        faces = []
        for ring in range(len(profile) - 1):
            for i in range(segments):
                j = (i + 1) % segments
                low, high = ring * segments, (ring + 1) * segments
                faces.append((low + i, low + j, high + j, high + i))
        made = self.mesh(material, corners, faces, at, (0.0, 0.0, np.deg2rad(turn_deg)))
        made.data.polygons.foreach_set("use_smooth", [True] * len(faces))
        return made

    def rock(
        self, material: "bpy.types.Material", radius: float, at: Sequence[float], rng: np.random.Generator,
        roughness: float = 0.25, flatten: float = 0.75,
    ) -> "bpy.types.Object":  # fmt: skip
        """A lumpy ball."""
        import bmesh

        shape = bmesh.new()
        bmesh.ops.create_icosphere(shape, subdivisions=4, radius=1.0)
        corners = np.array([v.co for v in shape.verts])
        faces = [tuple(v.index for v in face.verts) for face in shape.faces]
        shape.free()
        bump = np.zeros(len(corners))
        for octave in (1.5, 3.0, 6.0, 12.0):
            for _ in range(4):
                wave = rng.standard_normal(3) * octave
                bump += np.sin(corners @ wave + rng.uniform(0, 6.3)) / octave
        corners = corners * (1 + roughness * bump / 2)[:, None] * np.array([1.0, 1.0, flatten]) * radius
        corners[:, 2] -= corners[:, 2].min() + 0.1 * radius
        made = self.mesh(material, corners.tolist(), faces, at, (0.0, 0.0, rng.uniform(0, 6.3)))
        made.data.polygons.foreach_set("use_smooth", [True] * len(faces))
        return made

    def blades(
        self, material: "bpy.types.Material", count: int, spread: tuple[float, float], height: float, width: float,
        at: Sequence[float], rng: np.random.Generator, lean: float = 0.5,
    ) -> "bpy.types.Object":  # fmt: skip
        """Leaves or grass: bent pointed strips that grow from an ellipse of half axes `spread`."""
        corners: list[tuple[float, float, float]] = []
        faces = []
        for _ in range(count):
            angle, radius = rng.uniform(0, 2 * np.pi), np.sqrt(rng.random())
            root = np.array([spread[0] * radius * np.cos(angle), spread[1] * radius * np.sin(angle), 0.0])
            out = rng.standard_normal(2)
            out /= np.linalg.norm(out)
            tall = height * rng.uniform(0.6, 1.1)
            side = np.array([-out[1], out[0], 0.0]) * width / 2
            bend = np.array([*out, 0.0]) * lean * tall * rng.uniform(0.2, 1.0)
            start = len(corners)
            for share, thick in ((0.0, 0.7), (0.45, 1.0), (0.8, 0.6), (1.0, 0.05)):
                spine = (
                    root + bend * share**2 + np.array([0.0, 0.0, tall * share * (1 - 0.25 * lean * share)])
                )
                corners += [tuple(spine - thick * side), tuple(spine + thick * side)]
            faces += [
                (start + 2 * i, start + 2 * i + 1, start + 2 * i + 3, start + 2 * i + 2) for i in range(3)
            ]
        return self.mesh(material, corners, faces, at)

    def mesh(
        self, material: "bpy.types.Material", corners: Sequence[Sequence[float]], faces: Sequence[Sequence[int]],
        at: Sequence[float], rotation: Sequence[float] = (0.0, 0.0, 0.0),
    ) -> "bpy.types.Object":  # fmt: skip
        data = bpy.data.meshes.new("shape")
        data.from_pydata(corners, [], faces)
        data.materials.append(material)
        made = self._link("shape", data)
        made.location, made.rotation_euler = at, rotation
        return made

    # Pictures

    def points_seen(self, pose: Array, columns: int = 9, rows: int = 6) -> Array:
        """World points [P,3] where rays through a grid of pixels meet the scene; rays that miss are left out."""
        bpy.context.view_layer.update()
        graph = bpy.context.evaluated_depsgraph_get()
        focal = self.camera.data.lens / 36.0 * self.width
        found = []
        for j in range(rows):
            for i in range(columns):
                ray = np.array([
                    ((i + 0.5) / columns - 0.5) * self.width / focal,
                    ((j + 0.5) / rows - 0.5) * self.height / focal,
                    1.0,
                ])  # fmt: skip
                hit, place, *_ = self.scene.ray_cast(
                    graph, pose[:3, 3].tolist(), (pose[:3, :3] @ ray).tolist()
                )
                if hit:
                    found.append(tuple(place))
        if not found:
            raise ValueError("a camera sees nothing of the scene: change the layout's stand")
        return np.array(found)

    def render(self, path: Array, seed: int, row_share: float = 1.0) -> NDArray[np.float64]:
        """Linear light [H,W,3] averaged over camera poses `path`: [4,4] sharp, [K,4,4] uniform in time, blurred.

        row_share below 1: rolling shutter, see above; `path` then covers the time in which any row is open.
        """
        scene = self.scene
        poses = path.reshape(-1, 4, 4)
        self._move(poses)
        scene.render.use_motion_blur = len(poses) > 1
        if len(poses) > 1:
            steps = int(np.log2(len(poses) - 1))
            if 2**steps + 1 != len(poses):
                raise ValueError(f"a blurred render takes 2^n + 1 poses, not {len(poses)}")
            self.camera.cycles.use_motion_blur = True
            self.camera.cycles.motion_steps = steps
        scene.cycles.rolling_shutter_type = "TOP" if row_share < 1.0 else "NONE"
        scene.cycles.rolling_shutter_duration = row_share
        scene.cycles.seed = seed
        target = Path(self._folder.name) / "light.exr"
        scene.render.filepath = str(target)
        with _quiet():
            bpy.ops.render.render(write_still=True)
        return self._read(target)

    def _move(self, poses: Array) -> None:
        """Key the camera so that frame _FRAME, with shutter 1 centred on it, runs through the poses."""
        self.camera.animation_data_clear()
        times = [_FRAME] if len(poses) == 1 else _FRAME + np.linspace(-0.5, 0.5, len(poses))
        previous = None
        for time, pose in zip(times, poses, strict=True):
            matrix = mathutils.Matrix((pose @ _CAMERA_FROM_OPENCV).tolist())
            turn = matrix.to_quaternion()
            if previous is not None and previous.dot(turn) < 0:
                turn.negate()
            previous = turn
            self.camera.location, self.camera.rotation_quaternion = matrix.to_translation(), turn
            if len(poses) > 1:
                self.camera.keyframe_insert("location", frame=float(time))
                self.camera.keyframe_insert("rotation_quaternion", frame=float(time))
        self.scene.frame_set(_FRAME)

    def _read(self, path: Path) -> NDArray[np.float64]:
        image = bpy.data.images.load(str(path), check_existing=False)
        try:
            values = np.empty(self.width * self.height * 4, np.float32)
            image.pixels.foreach_get(values)
        finally:
            bpy.data.images.remove(image)
        return values.reshape(self.height, self.width, 4)[::-1, :, :3].astype(np.float64)

    def _settings(self, samples: int, threads: int) -> None:
        scene = self.scene
        render, cycles = scene.render, scene.cycles
        render.engine = "CYCLES"
        render.resolution_x, render.resolution_y, render.resolution_percentage = self.width, self.height, 100
        render.image_settings.file_format = "OPEN_EXR"
        render.image_settings.color_depth = "32"
        render.image_settings.color_mode = "RGB"
        render.use_persistent_data = True  # the scene stays the same, only the camera moves
        render.motion_blur_shutter, render.motion_blur_position = 1.0, "CENTER"
        render.threads_mode, render.threads = "FIXED", threads
        cycles.device = "CPU"
        cycles.samples = samples
        cycles.use_adaptive_sampling = False
        cycles.use_denoising = (
            False  # a denoiser removes or invents exactly the detail that is to be measured
        )
        cycles.max_bounces = cycles.diffuse_bounces = cycles.glossy_bounces = 0
        cycles.transmission_bounces = cycles.transparent_max_bounces = 0
        cycles.caustics_reflective = cycles.caustics_refractive = False

    def _link(self, name: str, data: "bpy.types.ID") -> "bpy.types.Object":
        made = bpy.data.objects.new(name, data)
        self.scene.collection.objects.link(made)
        return made


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Blender writes progress from C straight to the process's standard output."""
    sys.stdout.flush()
    kept = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
