"""Compiled kernels: z-buffer, interpolation of attributes at every hit pixel, soft shadows from a depth map."""
# The loops are written out: numba compiles them once and keeps the result beside this file or in the user's cache.

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

F32 = np.float32


def _compiled(function: Callable) -> Callable[..., Any]:
    return numba.njit(cache=True, fastmath=True)(function)


@_compiled
def rasterize(xy, z, faces, two_sided, width, height, face_at, depth_at):  # type: ignore[no-untyped-def]
    """Fill ``face_at`` (h, w) int32 and ``depth_at`` (h, w) float32 (preset to inf) with the nearest triangles.

    ``xy`` (V, 2) pixels with y down and pixel centres at .5, ``z`` (V,) depth. Triangles that face away are skipped
    unless ``two_sided``.
    """
    for t in range(faces.shape[0]):
        i, j, k = faces[t, 0], faces[t, 1], faces[t, 2]
        ax, ay, bx, by, cx, cy = xy[i, 0], xy[i, 1], xy[j, 0], xy[j, 1], xy[k, 0], xy[k, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if abs(area) < 1e-9 or (area >= 0 and not two_sided[t]):
            continue
        x0 = max(0, math.ceil(min(ax, bx, cx) - 0.5))
        x1 = min(width - 1, math.floor(max(ax, bx, cx) - 0.5))
        y0 = max(0, math.ceil(min(ay, by, cy) - 0.5))
        y1 = min(height - 1, math.floor(max(ay, by, cy) - 0.5))
        inverse = 1 / area
        za, zb, zc = z[i], z[j], z[k]
        for row in range(y0, y1 + 1):
            py = row + F32(0.5)
            for col in range(x0, x1 + 1):
                px = col + F32(0.5)
                u = ((cx - bx) * (py - by) - (cy - by) * (px - bx)) * inverse
                v = ((ax - cx) * (py - cy) - (ay - cy) * (px - cx)) * inverse
                if u < 0 or v < 0 or u + v > 1:
                    continue
                d = u * za + v * zb + (1 - u - v) * zc
                if d < depth_at[row, col]:
                    depth_at[row, col] = d
                    face_at[row, col] = t


@_compiled
def interpolate(pixels, hit_face, res, focal, in_camera, faces, attributes, uv, face_uv, out, out_uv, depth):  # type: ignore[no-untyped-def]
    """Intersect the ray of every hit pixel with its triangle: perspective-correct attributes, uv and depth.

    ``pixels`` (N,) flat indices into the (res, res) image, ``hit_face`` (N,), ``in_camera`` (V, 3), ``attributes``
    (V, A); writes ``out`` (N, A), ``out_uv`` (N, 2) and ``depth`` (N,).
    """
    for n in range(pixels.shape[0]):
        row = pixels[n] // res
        col = pixels[n] - row * res
        t = hit_face[n]
        dx = ((col + 0.5) / res * 2 - 1) / focal
        dy = -((row + 0.5) / res * 2 - 1) / focal
        i, j, k = faces[t, 0], faces[t, 1], faces[t, 2]
        ax, ay, az = in_camera[i, 0], in_camera[i, 1], in_camera[i, 2]
        e1x, e1y, e1z = in_camera[j, 0] - ax, in_camera[j, 1] - ay, in_camera[j, 2] - az
        e2x, e2y, e2z = in_camera[k, 0] - ax, in_camera[k, 1] - ay, in_camera[k, 2] - az
        px, py, pz = dy * e2z - e2y, e2x - dx * e2z, dx * e2y - dy * e2x
        det = e1x * px + e1y * py + e1z * pz
        if abs(det) < 1e-14:
            det = 1e-14
        u = -(ax * px + ay * py + az * pz) / det
        qx, qy, qz = az * e1y - ay * e1z, ax * e1z - az * e1x, ay * e1x - ax * e1y
        v = (dx * qx + dy * qy + qz) / det
        depth[n] = (e2x * qx + e2y * qy + e2z * qz) / det
        w = 1 - u - v
        for a in range(attributes.shape[1]):
            out[n, a] = w * attributes[i, a] + u * attributes[j, a] + v * attributes[k, a]
        for a in range(2):
            out_uv[n, a] = w * uv[face_uv[t, 0], a] + u * uv[face_uv[t, 1], a] + v * uv[face_uv[t, 2], a]


@_compiled
def soft_shadow(points, normals, light, axis_u, axis_v, origin, scale, depth_at, taps, softness, out):  # type: ignore[no-untyped-def]
    """Share of light (0..1) that reaches (N, 3) ``points``: four jittered taps into an orthographic depth map."""
    res = depth_at.shape[0]
    for n in range(points.shape[0]):
        cosine = normals[n, 0] * light[0] + normals[n, 1] * light[1] + normals[n, 2] * light[2]
        if cosine <= 0:
            out[n] = 0
            continue
        bias = F32(0.0025) + F32(0.004) * (1 - cosine)
        x = points[n, 0] + normals[n, 0] * bias
        y = points[n, 1] + normals[n, 1] * bias
        z = points[n, 2] + normals[n, 2] * bias
        u = (x * axis_u[0] + y * axis_u[1] + z * axis_u[2] - origin[0]) * scale
        v = (x * axis_v[0] + y * axis_v[1] + z * axis_v[2] - origin[1]) * scale
        d = -(x * light[0] + y * light[1] + z * light[2]) - bias
        lit = F32(0)
        for tap in range(4):
            q = (n * 4 + tap) % taps.shape[0]
            row = int(v + taps[q, 0] * softness)
            col = int(u + taps[q, 1] * softness)
            if row < 0 or col < 0 or row >= res or col >= res or depth_at[row, col] >= d:
                lit += F32(0.25)
        out[n] = lit
