"""Every keypoint table of the project; code elsewhere never repeats a number of this file.

A *pose* is a float32 array ``(133, 3)`` of ``x, y`` in pixels of its image and ``v`` in {0, 1, 2}: 0 not labelled or
outside the frame, 1 occluded, 2 visible. The order is COCO-WholeBody's: 17 body, 6 feet, 68 face, 21 left hand, 21
right hand. Left and right are the person's own.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

NUM_KEYPOINTS = 133
BODY, FEET, FACE = slice(0, 17), slice(17, 23), slice(23, 91)
LEFT_HAND, RIGHT_HAND, HANDS = slice(91, 112), slice(112, 133), slice(91, 133)
HAND_SLICES = {"right": RIGHT_HAND, "left": LEFT_HAND}
"""Hands in the order of the finger heat-map channels (right first)."""
HAND_LABELS = {"right": 1, "left": 2}
"""Value of each hand in a ``hands.png`` mask (0 is background)."""

BODY_NAMES = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)
FEET_NAMES = ("left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel")
HAND_NAMES = (
    "wrist",
    "thumb_cmc",
    "thumb_mcp",
    "thumb_ip",
    "thumb_tip",
    "index_mcp",
    "index_pip",
    "index_dip",
    "index_tip",
    "middle_mcp",
    "middle_pip",
    "middle_dip",
    "middle_tip",
    "ring_mcp",
    "ring_pip",
    "ring_dip",
    "ring_tip",
    "little_mcp",
    "little_pip",
    "little_dip",
    "little_tip",
)

# --- OKS sigmas: COCO-WholeBody's official values (the same in mmpose's coco_wholebody data set) -------------------
_BODY_SIGMAS = (
    0.026,
    0.025,
    0.025,
    0.035,
    0.035,
    0.079,
    0.079,
    0.072,
    0.072,
    0.062,
    0.062,
    0.107,
    0.107,
    0.087,
    0.087,
    0.089,
    0.089,
)
_FEET_SIGMAS = (0.068, 0.066, 0.066, 0.092, 0.094, 0.094)
_FACE_SIGMAS = (
    0.042, 0.043, 0.044, 0.043, 0.04, 0.035, 0.031, 0.025, 0.02, 0.023, 0.029, 0.032, 0.037, 0.038,
    0.043, 0.041, 0.045, 0.013, 0.012, 0.011, 0.011, 0.012, 0.012, 0.011, 0.011, 0.013, 0.015, 0.009,
    0.007, 0.007, 0.007, 0.012, 0.009, 0.008, 0.016, 0.01, 0.017, 0.011, 0.009, 0.011, 0.009, 0.007,
    0.013, 0.008, 0.011, 0.012, 0.01, 0.034, 0.008, 0.008, 0.009, 0.008, 0.008, 0.007, 0.01, 0.008,
    0.009, 0.009, 0.009, 0.007, 0.007, 0.008, 0.011, 0.008, 0.008, 0.008, 0.01, 0.008,
)  # fmt: skip
_HAND_SIGMAS = (
    0.029,
    0.022,
    0.035,
    0.037,
    0.047,
    0.026,
    0.025,
    0.024,
    0.035,
    0.018,
    0.024,
    0.022,
    0.026,
    0.017,
    0.021,
    0.021,
    0.032,
    0.02,
    0.019,
    0.022,
    0.031,
)
SIGMAS = np.array((*_BODY_SIGMAS, *_FEET_SIGMAS, *_FACE_SIGMAS, *_HAND_SIGMAS, *_HAND_SIGMAS))
"""(133,) per-keypoint standard deviations of the object keypoint similarity."""

# --- left-right flip -------------------------------------------------------------------------------------------------
_FACE_FLIP = (
    16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0,
    26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 27, 28, 29, 30, 35, 34, 33,
    32, 31, 45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40, 54, 53, 52,
    51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65,
)  # fmt: skip
FLIP = np.array(
    (
        *(0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15),
        *(20, 21, 22, 17, 18, 19),
        *(23 + i for i in _FACE_FLIP),
        *range(112, 133),
        *range(91, 112),
    )
)
"""(133,) index of each keypoint's counterpart after a left-right flip (an involution, equal to mmpose's)."""

# --- hands ------------------------------------------------------------------------------------------------------------
FINGERS = np.array([[0, *range(1 + 4 * f, 5 + 4 * f)] for f in range(5)])
"""(5, 5) chains of hand keypoints thumb..little, each starting at the wrist (Section III-B: a channel per finger)."""
HAND_EDGES = tuple((a, b) for chain in FINGERS.tolist() for a, b in pairwise(chain))
"""The 20 bones of a hand, in the order in which OpenPose draws them."""

# --- MediaPipe Holistic (0.10.21) -> COCO-WholeBody -----------------------------------------------------------------
MEDIAPIPE_BODY = (0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28)
"""MediaPipe pose landmark of each of the 17 body keypoints."""
MEDIAPIPE_FEET = (31, None, 29, 32, None, 30)
"""MediaPipe pose landmark of each foot keypoint; it has no small toe."""
MESH468_TO_FACE68 = (
    127, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 356,
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300, 168, 197, 5, 4, 75, 97, 2,
    326, 305, 33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380, 61, 39, 37,
    0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87,
)  # fmt: skip
"""Face-mesh vertex of each of the 68 face keypoints: the list of most public code with four points corrected (jaw ends
0 -> 127 and 16 -> 356, outer brows 17 -> 70 and 26 -> 300), which lowers the error on labelled faces from 0.0649 to
0.0631 of the eye distance."""

# --- OpenPose body-18, the drawing that SD 1.5's openpose ControlNet was trained on -----------------------------------
OPENPOSE_FROM_BODY = (
    (0,),
    (5, 6),
    (6,),
    (8,),
    (10,),
    (5,),
    (7,),
    (9,),
    (12,),
    (14,),
    (16,),
    (11,),
    (13,),
    (15,),
    (2,),
    (1,),
    (4,),
    (3,),
)
"""For each of the 18 joints, the body keypoints whose mean it is (the neck is the mid-point of the shoulders)."""
OPENPOSE_LIMBS = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10),
    (1, 11), (11, 12), (12, 13), (1, 0), (0, 14), (14, 16), (0, 15), (15, 17),
)  # fmt: skip
OPENPOSE_RGB = (
    (255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0),
    (0, 255, 0), (0, 255, 85), (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255),
    (0, 0, 255), (85, 0, 255), (170, 0, 255), (255, 0, 255), (255, 0, 170), (255, 0, 85),
)  # fmt: skip
"""Colour of joint i, and of limb i (v1.1 draws the limb at 0.6 of it)."""

# --- OpenPose's keypoint files -> COCO-WholeBody ----------------------------------------------------------------------
OPENPOSE18_BODY = (0, 15, 14, 17, 16, 5, 2, 6, 3, 7, 4, 11, 8, 12, 9, 13, 10)
"""Joint of the 18 (COCO model; the order that the ControlNets draw) of each of the 17 body keypoints."""
OPENPOSE25_BODY = (0, 16, 15, 18, 17, 5, 2, 6, 3, 7, 4, 12, 9, 13, 10, 14, 11)
"""Joint of BODY_25 of each of the 17 body keypoints (OpenPose, doc/02_output.md); 8 is the middle of the hips."""
OPENPOSE25_FEET = (19, 20, 21, 22, 23, 24)
"""Joint of BODY_25 of each of the 6 foot keypoints."""

# --- HumanSD's skeleton of the 17 body keypoints (its code and training; no hands, face or neck) ---------------------
HUMANSD_BONES = (
    (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7), (6, 8), (7, 9), (8, 10),
    (5, 11), (6, 12), (11, 13), (12, 14), (13, 15), (14, 16),
)  # fmt: skip
HUMANSD_RGB = (
    (219, 94, 86), (219, 144, 86), (219, 194, 86), (194, 219, 86), (145, 219, 86), (95, 219, 86),
    (86, 219, 127), (86, 219, 177), (86, 211, 219), (86, 161, 219), (86, 111, 219), (111, 86, 219),
    (160, 86, 219), (210, 86, 219), (219, 86, 178), (219, 86, 128),
)  # fmt: skip
"""Colour of bone i: seaborn's palette "hls" of 16 hues from 0.01 on, lightness 0.6, saturation 0.65."""
