"""Synthetic abdominal CT, for the demo and for trying things out where there is no data.

A patient is a few dozen shapes, each a signed distance in millimetres (negative inside), evaluated at the voxels' world
positions and painted one over the other. So every grid, tilted or permuted, shows the same anatomy; an edge mixes what
lies on its two sides, as a voxel would (partial volume); and a later shape takes place and label of an earlier one.

Shapes are placed in the atlas: a supine adult of average size in RAS+ millimetres, the origin before the first lumbar
vertebra. Positions, sizes and attenuations (Hounsfield units, HU) were set by eye, next to a CHAOS and an AMOS scan, to
a portal-venous scan's order: kidneys above vessels above spleen, liver a little below, then muscle, bile and fat.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from medseg.atomic import whole, write_json
from medseg.errors import UnwritableError
from medseg.volume import Geometry, LabelMap, Volume, resample, write_image

LABELS = {1: "spleen", 2: "kidney_right", 3: "kidney_left", 4: "liver"}
# How scanners and archives store axial series, and three orders that a careless reader gets wrong.
ORIENTATIONS = ("LPS", "LAS", "RAS", "RPI", "SAR", "PIR", "ALI")
OBLIQUE_SHARE = 1 / 3
AIR_HU, LUNG_HU, FAT_HU, MUSCLE_HU = -1000, -840, -100, 55
BOWEL_WALL_HU, CARTILAGE_HU, BLOOD_HU, BONE_HU = 85, 130, 150, 380
WALL_MM = 12.0  # the muscles around the abdomen

Field: TypeAlias = NDArray[np.floating[Any]]  # a number per voxel, shape (N,), or a place, (3, N)
Point: TypeAlias = tuple[float, float, float]  # atlas, mm


def synthetic_ct(seed: int) -> tuple[Volume, LabelMap]:
    """Return an invented abdominal CT and its organs; the same seed gives the same voxels.

    Returns:
        The scan, int16 HU of shape (1, I, J, K) from −1024 up, some 60×50×40 voxels of 5 to 6 mm by 6 to
        8 mm slices; and on the same grid the label map, uint8, ids as in `LABELS`.
    """
    rng = np.random.default_rng(seed)
    fat_mm, size = rng.uniform(8, 26), rng.uniform(0.94, 1.06)
    grid = _draw_grid(rng, half_width_mm=size * (140 + fat_mm))
    patient = _Patient(_to_atlas(grid, size, rng), edge_mm=float(np.mean(grid.spacing_mm)) / size, rng=rng)
    _paint_trunk(patient, fat_mm)
    _paint_chest(patient)
    _paint_bowel(patient)
    _paint_liver(patient)
    _paint_stomach(patient)
    _paint_spleen(patient)
    _paint_kidneys(patient)
    _paint_spine(patient)
    hu = (patient.hu.reshape(grid.shape) + _noise(grid.shape, rng)).round().clip(-1024, 3071).astype(np.int16)
    target = grid.reorient(str(rng.choice(ORIENTATIONS)))
    labels = resample(patient.labels.reshape(grid.shape), source=grid, target=target, order=0)
    return Volume(resample(hu[None], source=grid, target=target, order=0), target), LabelMap(labels, target)


def write_synthetic_dataset(folder: Path, *, cases: int, seed: int = 0) -> Path:
    """Write a dataset laid out as in the Medical Segmentation Decathlon, and return its folder.

    Args:
        folder: new or empty; it appears whole or not at all, with `dataset.json`, `imagesTr` and `labelsTr` in it.
        cases: how many, at least 1.
        seed: datasets of different seeds share no case.

    Raises:
        UnwritableError: the folder holds something already, or cannot be written.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise UnwritableError(f"writing {folder}", found="it holds something already", remedy="name a new folder")
    names = [f"synthetic_{seed}_{number:03d}.nii.gz" for number in range(cases)]
    summary = {
        "name": "Synthetic abdomen",
        "description": "Invented portal-venous CT of the abdomen, drawn by medseg. No patient was scanned.",
        "licence": "CC0-1.0",
        "tensorImageSize": "3D",
        "modality": {"0": "CT"},
        "labels": {"0": "background"} | {str(id_): name for id_, name in LABELS.items()},
        "numTraining": cases,
        "numTest": 0,
        "training": [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names],
        "test": [],
    }
    with whole(folder) as temporary:
        for number, name in enumerate(names):
            scan, labels = synthetic_ct(int(np.random.SeedSequence([seed, number]).generate_state(1)[0]))
            write_image(scan, temporary / "imagesTr" / name)
            write_image(labels, temporary / "labelsTr" / name)
        write_json(temporary / "dataset.json", summary)
    return folder


def _draw_grid(rng: np.random.Generator, *, half_width_mm: float) -> Geometry:
    """Return a grid around the patient, its axes near R, A, S, and away from the world's origin, as on a scanner."""
    spacing_mm = np.array([1, 1, 0]) * rng.uniform(5.0, 5.8) + np.array([0, 0, 1]) * rng.uniform(6.2, 7.8)
    shape = np.ceil(np.array([2.2 * half_width_mm, 1.76 * half_width_mm, 262.0]) / spacing_mm).astype(int)
    tilt = rng.normal(size=3)
    tilt *= np.radians(rng.uniform(3, 6)) / np.linalg.norm(tilt) if rng.random() < OBLIQUE_SHARE else 0.0
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_rotvec(tilt).as_matrix() * spacing_mm
    affine[:3, 3] = rng.uniform((-40, -150, -600), (40, 150, 600)) - affine[:3, :3] @ (shape - 1) / 2
    return Geometry((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def _to_atlas(grid: Geometry, size: float, rng: np.random.Generator) -> Field:
    """Return every voxel's place in the atlas, shape (3, N): patients lie askew, differ in size, and bend."""
    centre_voxel = (np.array(grid.shape) - 1) / 2 + rng.uniform(-0.7, 0.7, 3)
    pose = Rotation.from_euler("xyz", rng.normal(0, (1.5, 1.5, 2.5)), degrees=True).as_matrix() / size
    index = np.indices(grid.shape, np.float32).reshape(3, -1) - centre_voxel[:, None].astype(np.float32)
    atlas = _turn(pose @ grid.affine[:3, :3], index) + np.array([[0], [-12], [5]], np.float32)
    return np.stack([axis + _waves(atlas, rng, height_mm=3, length_mm=200) for axis in atlas])


def _turn(matrix: Any, points: Field) -> Field:
    """Return matrix × points. Without BLAS, whose rounding differs with the number of threads."""
    return np.asarray(np.einsum("ij,jn->in", np.asarray(matrix, np.float32), points))


def _waves(at: Field, rng: np.random.Generator, *, height_mm: float, length_mm: float) -> Field:
    """Return a smooth random field, shape (N,): the sum of three plane waves in random directions."""
    waves = rng.normal(0, 2 * np.pi / (1.7 * length_mm), (3, 3))  # a 3D normal is 1.7 σ long
    phases = rng.uniform(0, 2 * np.pi, (3, 1)).astype(np.float32)
    return np.asarray(np.sin(_turn(waves, at) + phases).sum(axis=0) * np.float32(height_mm / 3**0.5))


def _noise(shape: tuple[int, int, int], rng: np.random.Generator) -> Field:
    """Return quantum noise, 9 to 15 HU: filtered back-projection leaves it grainy in plane, slices independent."""
    white = rng.standard_normal(shape, np.float32)
    grain = ndimage.gaussian_filter(white, (0.6, 0.6, 0)) - 0.5 * ndimage.gaussian_filter(white, (1.8, 1.8, 0))
    return np.asarray(grain * np.float32(rng.uniform(9, 15) / grain.std()))


def _meet(*shapes: Field) -> Field:
    """Return what lies in all the shapes."""
    return np.asarray(np.maximum.reduce(shapes))


def _blend(*shapes: Field) -> Field:
    """Return the union of shapes, their seams filled smoothly: the soft minimum over 6 mm."""
    return np.asarray(-6 * np.logaddexp.reduce([shape / -6 for shape in shapes]))


class _Patient:
    """A scan while it is drawn.

    Attributes:
        at, x, y, z: each voxel's place in the atlas, together and by axis.
        hu, labels: what has been painted, from air on.
        wall, dome, organs: the trunk within the skin's fat; all below the diaphragm; the organs' space within both.
    """

    def __init__(self, atlas: Field, *, edge_mm: float, rng: np.random.Generator) -> None:
        self.at, self.edge_mm, self.rng = atlas, edge_mm, rng
        self.x, self.y, self.z = atlas
        self.hu = np.full_like(self.x, AIR_HU)
        self.labels = np.zeros(self.x.shape, np.uint8)
        half_width = 142 - 0.0007 * (self.z - 15) ** 2  # narrower at the armpits and the waist
        ratio = (np.abs(self.x / half_width) ** 2.4 + np.abs(self.y / 92) ** 2.4 + 1e-6) ** (1 / 2.4)
        self.wall = np.hypot(self.x, self.y) * (1 - 1 / ratio) + 7 * np.exp(-((self.x / 16) ** 2)) * (self.y < 0)
        beside = np.abs(self.x) - 60  # of a dome's apex
        fall = np.where(beside > 0, 50, 22) * (beside / 70) ** 2 + 55 * ((self.y - 8) / 80) ** 2
        self.dome = 0.8 * (self.z + fall - 103 - 5 * np.tanh(self.x / 25) + rng.uniform(-4, 6))
        self.organs = _meet(self.wall + WALL_MM + 2, self.dome + 3)

    def paint(self, shape: Field, hu: float | Field, label: int | None = 0) -> None:
        """Cover a shape with tissue; None leaves the labels as they are."""
        cover = (0.5 - shape / self.edge_mm).clip(0, 1)
        self.hu += cover * (hu - self.hu)
        if label is not None:
            self.labels[cover >= 0.5] = label

    def ellipsoid(self, centre: Point, radii: Point, *, turn: Point = (0, 0, 0), vary: float = 1.0) -> Field:
        """Return an ellipsoid turned by degrees about x, y and z; `vary` scales how much patients differ."""
        middle = np.array(centre) + vary * self.rng.normal(0, 2.5, 3)
        size = np.array(radii) * (1 + vary * self.rng.normal(0, 0.04, 3))
        turned = Rotation.from_euler("xyz", np.array(turn) + vary * self.rng.normal(0, 4, 3), degrees=True)
        local = _turn(turned.inv().as_matrix() / size[:, None], self.at - middle[:, None].astype(np.float32))
        # Quílez's distance: the implicit function over its gradient, right to first order at the surface.
        ratio, slope = np.linalg.norm(local, axis=0), np.linalg.norm(local / size[:, None].astype(np.float32), axis=0)
        shape = ratio * (ratio - 1) / (slope + np.float32(1e-6))
        return np.asarray(shape + _waves(self.at, self.rng, height_mm=1.7 * vary, length_mm=70) if vary else shape)

    def pillar(self, x: float, y: float, radius_x: float, radius_y: float) -> Field:
        """Return an upright cylinder."""
        return self.ellipsoid((x, y, 0), (radius_x, radius_y, 1e5), vary=0)

    def tube(self, *path: Point, radius: float) -> Field:
        """Return a tube of one radius along straight pieces."""
        shapes = []
        for start, end in pairwise(np.array(path, np.float32)[:, :, None]):
            along = (_turn((end - start).T, self.at - start) / np.sum((end - start) ** 2)).clip(0, 1)
            shapes.append(np.linalg.norm(self.at - start - along * (end - start), axis=0) - radius)
        return np.asarray(np.minimum.reduce(shapes))


def _paint_trunk(p: _Patient, fat_mm: float) -> None:
    """Paint the table, skin fat (thicker at the flanks), the muscles with the ribs, and the fat between the organs."""
    p.paint(np.abs(p.y + 103 + 0.7 * fat_mm - p.x**2 / 600) - 4.5, -60)
    p.paint(p.wall - fat_mm * (0.65 + 0.4 * (p.x / 140) ** 2), FAT_HU)
    p.paint(p.wall, MUSCLE_HU)
    p.paint(p.wall + WALL_MM, FAT_HU)
    step = np.mod(p.z + 0.7 * p.y + p.rng.uniform(0, 28), 28) - 14  # a rib every 28 mm, sloping down to the front
    margin = -45 + 1.1 * (p.y + 20).clip(0) * (1.3 - np.abs(p.x) / 140)  # the costal margin rises to the front
    ribs = _meet(np.hypot(p.wall + 7, 0.8 * step) - 5, margin - p.z, np.where(p.y < 0, 38 - np.abs(p.x), -9))
    p.paint(ribs, np.where(p.y > 48, CARTILAGE_HU, BONE_HU))
    for side in (1, -1):
        p.paint(p.pillar(side * 31, -74, 29, 17), MUSCLE_HU)  # erector of the spine
        p.paint(p.ellipsoid((side * 34, -46, -140), (20, 17, 125)), MUSCLE_HU)  # psoas


def _paint_chest(p: _Patient) -> None:
    """Paint the bases of the lungs, the mediastinum between them and the heart on the diaphragm."""
    p.paint(_meet(p.wall + WALL_MM, -p.dome), LUNG_HU + _waves(p.at, p.rng, height_mm=50, length_mm=20))
    p.paint(_meet(p.pillar(-3, -34, 26, 34), -p.dome - 10), 10)
    heart = _meet(p.ellipsoid((-30, 30, 118), (62, 44, 46), turn=(0, 15, 20)), -p.dome - 10)
    p.paint(heart, 105)
    p.paint(heart + 11, BLOOD_HU)


def _paint_bowel(p: _Patient) -> None:
    """Paint loops of small bowel (a gyroid: tubes that fill space) and the colon with its gas above its stool."""
    x, y, z = ((axis + _waves(p.at, p.rng, height_mm=9, length_mm=75)) * np.float32(2 * np.pi / 54) for axis in p.at)
    gyroid = 7 * (np.sin(x) * np.cos(y) + np.sin(y) * np.cos(z) + np.sin(z) * np.cos(x)) - 3
    loops = _meet(gyroid, p.ellipsoid((-5, 30, -90), (92, 48, 84)), p.organs + 2)
    p.paint(loops, BOWEL_WALL_HU)
    p.paint(loops + 4, 30)
    ascending = p.tube((92, -12, -170), (90, -2, -62), (70, 40, -48), radius=20)
    transverse = p.tube((70, 44, -50), (0, 58, -62), (-80, 42, -22), radius=16)
    descending = p.tube((-88, 20, -10), (-100, -22, -50), (-98, -12, -170), radius=15)
    haustra = 2.5 * np.sin((p.x + p.z) / 4.5)
    colon = _meet(np.minimum(np.minimum(ascending, transverse), descending) + haustra, p.organs + 2)
    p.paint(colon, BOWEL_WALL_HU)
    p.paint(colon + 3.5, 10 + _waves(p.at, p.rng, height_mm=35, length_mm=35))
    p.paint(_meet(colon + 3.5, p.rng.uniform(42, 56) - p.y), AIR_HU)


def _paint_liver(p: _Patient) -> None:
    """Paint the liver over the right kidney and across the midline, its veins, in some a lesion, the gallbladder."""
    right = p.ellipsoid((66, 6, 30), (74, 84, 84), turn=(0, 10, 0))
    left = p.ellipsoid((4, 44, 62), (68, 36, 40), turn=(0, -8, -8))
    below, behind = p.ellipsoid((-28, -12, -62), (90, 70, 100)), p.ellipsoid((0, -52, 10), (30, 33, 140))
    liver = _meet(_blend(right, left), 6 - below, 6 - behind, p.organs)
    p.paint(liver, hu := p.rng.uniform(95, 125), 4)
    for end in ((105, -30, 60), (75, 45, 60), (5, 50, 62)):
        p.paint(_meet(p.tube((22, -22, 78), end, radius=4.5), liver + 5), hu + 45, None)  # hepatic veins
    for end in ((105, 25, 20), (100, -40, 20), (40, 40, 50)):
        p.paint(_meet(p.tube((30, 4, 22), (68, 4, 32), end, radius=5.5), liver + 5), hu + 45, None)  # portal veins
    if p.rng.random() < 0.4:
        p.paint(_meet(p.ellipsoid((82, -8, 50), (13, 13, 13), vary=4), liver + 5), p.rng.uniform(5, 60), None)
    p.paint(p.ellipsoid((48, 42, -12), (14, 17, 26), turn=(25, 0, 0)), 12)


def _paint_stomach(p: _Patient) -> None:
    """Paint the stomach, its air above its juice because the patient lies on the back, and the pancreas."""
    fundus = p.ellipsoid((-56, 2, 58), (34, 36, 36))
    body = p.ellipsoid((-60, 26, 22), (27, 27, 46), turn=(-20, 15, 0))
    stomach = _meet(_blend(fundus, body, p.tube((-44, 42, -14), (12, 40, -14), radius=14)), p.organs + 2)
    p.paint(stomach, BOWEL_WALL_HU)
    p.paint(stomach + 5, p.rng.uniform(10, 60))
    p.paint(_meet(stomach + 5, p.rng.uniform(20, 44) - p.y), AIR_HU)
    p.paint(p.tube((24, 6, -30), (16, 10, -4), (-22, 8, 8), (-72, -14, 28), radius=10), p.rng.uniform(85, 105))


def _paint_spleen(p: _Patient) -> None:
    """Paint the spleen: a bean under the left ribs, hollow towards the stomach; about 225 ml in adults."""
    bean = p.ellipsoid((-96, -30, 36), (38, 52, 61), turn=(12, 0, -14))
    hilum = p.ellipsoid((-50, -2, 34), (32, 40, 80))
    p.paint(_meet(bean, 5 - hilum, p.organs), p.rng.uniform(108, 132), 1)


def _paint_kidneys(p: _Patient) -> None:
    """Paint the kidneys in their fat, the right one lower, upper poles inwards; the sinus opens to the middle."""
    for side, label, depth in ((1, 2, -38), (-1, 3, -24)):
        turn = (10, 9 * side, 28 * side)
        kidney = p.ellipsoid((side * 60, -36, depth), (29, 25, 55), turn=turn)
        p.paint(kidney - 5, FAT_HU)
        p.paint(kidney, cortex := p.rng.uniform(178, 205), label)
        p.paint(_meet(kidney + 8, 4 * np.sin(p.z / 3.2) - 1), cortex - 35, label)  # pyramids
        p.paint(p.ellipsoid((side * 44, -29, depth), (16, 8, 22), turn=turn), -50)
        p.paint(p.tube((side * 48, -27, depth), (side * 8, -20, depth + 10), radius=4.5), BLOOD_HU)


def _paint_spine(p: _Patient) -> None:
    """Paint the great vessels, as bright as organs, and the spine: shells of bone around marrow, discs, processes."""
    p.paint(p.tube((-8, -18, -170), (-10, -17, 60), (-14, -22, 170), radius=p.rng.uniform(9.5, 12)), BLOOD_HU)  # aorta
    p.paint(p.tube((20, -18, -170), (22, -20, 60), (20, 0, 110), radius=p.rng.uniform(10, 13)), BLOOD_HU - 15)  # cava
    p.paint(p.tube((6, 2, -110), (8, 4, -20), (30, 4, 22), radius=6.5), BLOOD_HU + 5, None)  # portal
    level = np.abs(np.mod(p.z + p.rng.uniform(0, 33), 33) - 16.5)  # a vertebra and its disc are 33 mm high
    body = p.pillar(0, -46, 22, 17)
    p.paint(np.minimum(body, p.pillar(0, -67, 17, 14)), BONE_HU)
    p.paint(_meet(p.pillar(0, -88, 4.5, 15), level - 11, p.y + 60), BONE_HU)
    p.paint(_meet(np.minimum(p.pillar(27, -66, 16, 4), p.pillar(-27, -66, 16, 4)), level - 5), BONE_HU - 60)
    p.paint(_meet(body + 5, level - 10), p.rng.uniform(150, 230))
    p.paint(_meet(body, 12.5 - level), 85)
    p.paint(p.pillar(0, -69, 10, 8), 30)  # canal
