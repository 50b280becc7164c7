"""``h2d sample`` in the argument tree."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

from h2d.arguments import command

EXAMPLES = """\
examples:
  h2d sample --pose photograph.jpg --out samples                    # with the small model that comes with h2d
  h2d sample --pipeline pipeline --pose photograph.jpg --prompt "a woman in a red coat waves" --out samples
  h2d sample --pipeline pipeline --pose *.jpg --pose-only --out samples             # look at the poses first
  h2d sample --pipeline pipeline --pose photograph.jpg --keep-hand left --count 4 --out samples
  h2d sample --pipeline pipeline --pose openpose.json --people 3 --height 512 --width 768 --out samples
"""


def add_sample(commands: argparse._SubParsersAction) -> None:
    """Add the command to the tree."""
    parser = command(commands, "sample", _run, "generate images of people in given poses")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLES
    add = parser.add_argument
    add(
        "--pipeline",
        type=Path,
        default=Path("tiny-model"),
        metavar="DIR",
        help="folder that `h2d export` wrote, or a hub id; %(default)s, which paints rendered people, comes with h2d",
    )
    add(
        "--pose",
        nargs="+",
        required=True,
        metavar="FILE",
        help="photographs, or folders of them; JSON of h2d, OpenPose or COCO-WholeBody (FILE::IMAGE); shards (FOLDER "
        "or FOLDER::KEY)",
    )
    add("--out", type=Path, required=True, metavar="DIR", help="for pose.png, result.png, stages.png, *.json")

    group = parser.add_argument_group("what to paint")
    add = group.add_argument
    add("--prompt", help="text; by default the caption of a sample, or `a photo of a person`")
    add("--negative-prompt", default="", metavar="TEXT", help="what the images should not be like")
    add("--people", type=int, default=1, metavar="N", help="at most so many people of a picture (%(default)s)")
    add("--height", type=int, metavar="PX", help="of the image; a square of the pipeline's size by default")
    add("--width", type=int, metavar="PX")
    add(
        "--keep-hand",
        nargs="+",
        choices=("right", "left"),
        default=[],
        metavar="right|left",
        help="keep the pixels of these hands of the photograph (the person's own right and left)",
    )
    add(
        "--hand-mask",
        type=Path,
        metavar="PNG",
        help="of the photograph's size, hands white, or 1 (right) and 2 (left): what --keep-hand keeps, and the layout "
        "of hands that are made",
    )
    add("--sam", type=Path, metavar="PTH", help="SAM checkpoint to find the kept hands with, instead of GrabCut")
    add("--pose-only", action="store_true", help="write pose.png and pose.json to look at, and no image")

    group = parser.add_argument_group("how")
    add = group.add_argument
    add("--seed", type=int, default=0, help="of the first image (%(default)s)")
    add("--count", type=int, default=1, metavar="N", help="images of each pose, with seeds one after another")
    add("--steps", type=int, help="denoising steps of each stage (the pipeline's own, 50 for Stable Diffusion)")
    add("--guidance", type=float, help="classifier-free guidance (the pipeline's own, 7.5 for Stable Diffusion)")
    add("--scheduler", metavar="NAME", help="any of diffusers that fits, such as DPMSolverMultistep (DDIM)")
    add("--blending", choices=("sequential", "naive", "bbox"), default="sequential", help="Table II (%(default)s)")
    add(
        "--start-radius",
        type=float,
        metavar="PX",
        help="radius of the first, largest mask of sequential blending, px at 512 (the pipeline's own, or 49)",
    )

    group = parser.add_argument_group("where")
    add = group.add_argument
    add("--device", default="auto", help="cpu, cuda, cuda:1 or auto (%(default)s)")
    add("--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="of the networks (%(default)s)")
    add("--batch-size", type=int, default=4, metavar="N", help="images at a time, halved when memory is short (4)")
    add("--offload", action="store_true", help="keep on the GPU only the network that is at work")


def _run(options: argparse.Namespace) -> None:
    from h2d.poses.sources import sources_in
    from h2d.quiet import quiet_libraries
    from h2d.sample.request import SampleRequest

    given = {field.name: getattr(options, field.name) for field in fields(SampleRequest)}
    given["pose"] = [source for named in options.pose for source in sources_in(named)]
    lists = {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
    request = SampleRequest(**{**given, **lists})
    quiet_libraries()
    from h2d.sample.run import sample

    for path in sample(request):
        print(path)
