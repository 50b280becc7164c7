"""The model card of a pipeline folder: what it is, what it was made from, how to load it, where it fails."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard, ModelCardData

from h2d.pipelines.two_stage import TwoStagePipeline

BASE_LICENCES = {"tiny": "apache-2.0", "stable-diffusion-v1": "creativeml-openrail-m"}
"""Licence identifier of a base whose name contains the key; others are unknown to us."""
DATA_LICENCES = {
    "reinterhand": "Re:InterHand is CC BY-NC 4.0: no commercial use.",
    "interhand": "InterHand2.6M is CC BY-NC 4.0: no commercial use.",
    "hagrid": "HaGRID is under a CC BY-SA variant, which depends on the version.",
    "laion_human": "LAION-Human lists pictures of the web, each with the rights of its owner.",
}
"""What is to be said about a data set whose reader has that name."""
SETTINGS = {
    "image_size": "side of the image, px",
    "hand_size": "side of the hand crops of stage I, px",
    "sigma_px": "sigma of the finger heat maps, px of the crop",
    "margin": "side of a hand crop, in lengths of its keypoint box",
    "wrist": "finger channels that show the wrist",
    "num_inference_steps": "denoising steps of each stage, where a call does not say otherwise",
    "guidance_scale": "likewise",
    "start_radius_px": "likewise, of the mask expansion, px at 512",
    "blend": "how the hands enter the latents during training and sampling (Eq. 11)",
}

TEXT = """\
# {name}

Generates a picture of a person from a text and a whole-body pose of 133 keypoints, in two stages: a hand generator
paints each hand together with its mask, then a ControlNet paints the body around the hands, whose pixels stay as they
are. This is an open implementation of *Giving a Hand to Diffusion Models* ([arXiv 2403.10731]\
(https://arxiv.org/abs/2403.10731)), made by others than its authors.

## Use

The pipeline is a class of the `h2d` package, so `DiffusionPipeline.from_pretrained` alone does not find it:

```python
from h2d.pipelines import TwoStagePipeline
from h2d.poses import frame_scene, read_scene

pipeline = TwoStagePipeline.from_pretrained("FOLDER").to("cuda")
scene = frame_scene(read_scene("photograph.jpg"), {image_size}, {image_size})  # its people: (P, 133, 3) x, y in px, v
output = pipeline("a woman makes a peace sign", [scene.people])
output.images[0].save("person.png")
```

Keypoints are in COCO-WholeBody's order. The hands in `output.images` are those of `output.canvas` to the last bit.

On the command line: `h2d sample --pipeline FOLDER --pose photograph.jpg --prompt TEXT --out samples`.

| setting | value | meaning |
|---|---|---|
{settings}

## Made from

Base model: {base}. A field that is missing here was not recorded.

```yaml
{sources}
```

## Limits

* A hand of only a few latent cells loses its fingers; a pose with hands but without arms gives floating hands.
* Where stage I sees no hand in its own picture, the mask is empty and stage II paints that hand as it likes.
* Hands of one person that meet are made together; hands of two people that meet are made apart.
* The hands are as good as stage I, which has seen the hands, skin and light of its training data and no others.
* The pose places the hands. It does not say who the person is, and the text steers the rest only as well as the base.
* Pictures of people can mislead. Do not pass them off as photographs, and do not imitate a person without consent.

## Licence

The code is Apache-2.0. The weights are under the licence of the base model and are bound by the licences of the
training data.
{licences}

## Citation

```bibtex
@article{{pelykh2024giving,
  title   = {{Giving a Hand to Diffusion Models:
             a Two-Stage Approach to Improving Conditional Human Image Generation}},
  author  = {{Pelykh, Anton and Sincan, Ozge Mercanoglu and Bowden, Richard}},
  journal = {{arXiv preprint arXiv:2403.10731}},
  year    = {{2024}}
}}
```
"""


def write_card(folder: Path, pipeline: TwoStagePipeline, sources: Mapping[str, Any]) -> Path:
    """Write ``README.md`` with the YAML header of a model hub into a pipeline folder.

    Args:
        folder: of the pipeline; its name is the card's title.
        pipeline: for its settings.
        sources: where the pipeline comes from, as plain values that YAML can hold; printed as they are. Three keys
            mean something: ``name`` (title), ``base`` (the base model, "tiny" or a hub id or a folder) and ``data``
            (number of training samples by the name of their source).

    Returns:
        The path of the card.
    """
    card = ModelCard(f"---\n{_header(sources).to_yaml()}\n---\n\n{_body(folder, pipeline, sources)}")
    card.save(folder / "README.md")
    return folder / "README.md"


def _header(sources: Mapping[str, Any]) -> ModelCardData:
    base = str(sources.get("base", ""))
    licence = next((licence for part, licence in BASE_LICENCES.items() if part in base), "other")
    return ModelCardData(
        license=licence,
        license_name="that-of-the-base-model" if licence == "other" else None,
        base_model=base if base.count("/") == 1 and not base.startswith((".", "/", "~")) else None,
        library_name="diffusers",
        pipeline_tag="text-to-image",
        tags=["h2d", "controlnet", "pose", "hands", "human-image-generation"],
    )


def _body(folder: Path, pipeline: TwoStagePipeline, sources: Mapping[str, Any]) -> str:
    rows = [f"| `{key}` | {pipeline.config[key]} | {meaning} |" for key, meaning in SETTINGS.items()]
    data = {str(name).replace("-", "_") for name in sources.get("data", ())}
    licences = [f"* {text}" for name, text in DATA_LICENCES.items() if name in data]
    return TEXT.format(
        name=sources.get("name", folder.name),
        image_size=pipeline.config["image_size"],
        settings="\n".join(rows),
        base=sources.get("base", "not recorded"),
        sources=yaml.safe_dump(dict(sources), sort_keys=False, allow_unicode=True).strip(),
        licences="\n".join(["", *licences]) if licences else "",
    )
