"""How the page calls the numbers, and what each of them says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

LABELS = {
    "n": "n",
    "dap": "DAP",
    "dap_hands": "DAP hands",
    "mpjpe": "MPJPE",
    "mpjpe_hands": "MPJPE hands",
    "detection_rate": "detected",
    "mask_iou": "mask IoU",
    "fid": "FID",
    "kid": "KID",
    "kid_x1000": "KID ×1000",
    "fid_fg": "FID fg",
    "kid_fg": "KID fg",
    "fid_fg_selfie": "FID fg (selfie)",
    "kid_fg_selfie": "KID fg (selfie)",
    "clipsim": "CLIPSIM",
    "detection_rate_hands": "hands detected",
    "border_contrast": "border",
    "border_contrast_real": "border (photographs)",
    "fd_latents": "FD latents",
}
MEANINGS = {
    "n": "number of samples",
    "dap": "average precision of the poses found in the pictures, by COCO's keypoint similarity over 133 points",
    "dap_hands": "the same over the 42 points of the hands",
    "mpjpe": "mean distance of joints as a share of the picture's side; joints that were not found count as lying in "
    "its upper left corner",
    "mpjpe_hands": "the same over the joints of the hands",
    "detection_rate": "share of the pictures in which a person was found",
    "mask_iou": "overlap of the hand masks that stage I predicts with those of the photographs",
    "fid": "Fréchet distance between the pictures and the photographs, in features of Inception",
    "kid": "kernel distance in the same features",
    "kid_x1000": "the same, times 1000",
    "fid_fg": "FID of the people, cut out of their backgrounds",
    "kid_fg": "KID of the people, cut out of their backgrounds",
    "fid_fg_selfie": "the same, cut out by MediaPipe in place of SAM",
    "kid_fg_selfie": "the same, cut out by MediaPipe in place of SAM",
    "clipsim": "similarity of picture and caption as CLIP sees it",
    "detection_rate_hands": "share of the hands that were found",
    "border_contrast": "how much neighbouring pixels around the hands' borders differ, of 255: a seam raises it",
    "border_contrast_real": "the same in the photographs",
    "fd_latents": "Fréchet distance between the pictures and the photographs, in latents of h2d's own small model",
}


def versions_of(reports: Sequence[Mapping[str, Any]]) -> list[str]:
    """The versions of h2d that measured, each once."""
    return list(dict.fromkeys(_version(report.get("provenance", {})) for report in reports))


def date_of(reports: Sequence[Mapping[str, Any]]) -> str:
    """When the last evaluation ended, such as ``2026-01-31 09:05 UTC``; "" where none says."""
    last = max((str(report.get("provenance", {}).get("time") or "") for report in reports), default="")
    return last[:16].replace("T", " ") + " UTC" if last.endswith("+00:00") else last


def _version(made_by: Mapping[str, Any]) -> str:
    version, commit = f"h2d {made_by.get('h2d') or 'of an unknown version'}", str(made_by.get("commit") or "")
    if not commit:
        return version
    return f"{version}, commit {commit[:10]}" + (" with uncommitted changes" if commit.endswith("+") else "")
