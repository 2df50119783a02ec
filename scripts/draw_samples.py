"""Draws the sample photos of the page: three scenes, ray-marched from distance functions, so that they are our own.

Notation: points are (n, 3) float32 in metres, y upwards; colours (n, 3) linear light in [0, 1].
Source of the technique: Hart 1996, Sphere tracing.
"""

# ruff: noqa: D103 (shapes and paints are named after what they are)
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[Any]
Shape = Callable[[Array], Array]
Paint = Callable[[Array], Array]
Point = tuple[float, float, float]
WEB_SAMPLES = Path(__file__).resolve().parents[1] / "service" / "web" / "samples"
SIZE = (800, 600)
SUPERSAMPLING = 2
STEPS, SHADOW_STEPS = 110, 40
CHUNK = 200_000


@dataclass(frozen=True)
class Thing:
    """A shape with its paint; `gloss` is the strength of its highlight."""

    distance: Shape
    paint: Paint
    gloss: float = 0.1


@dataclass(frozen=True)
class Scene:
    """What is there, where the camera is, where light comes from."""

    name: str
    alt: str
    things: Sequence[Thing]
    eye: Point
    target: Point
    zoom: float
    sun: Point
    sun_colour: Point
    sky: Callable[[Array], Array]
    haze: float = 0.0


def vec(*values: float) -> Array:
    return np.array(values, dtype=np.float32)


def norm(v: Array) -> Array:
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def length(v: Array) -> Array:
    return np.linalg.norm(v, axis=-1)


# Shapes


def ball(centre: Point, radius: float, stretch: Point = (1, 1, 1)) -> Shape:
    c, s = vec(*centre), vec(*stretch)
    return lambda p: (length((p - c) / s) - radius) * min(stretch)


def box(centre: Point, half: Point, round_: float = 0.02) -> Shape:
    c, h = vec(*centre), vec(*half) - round_

    def distance(p: Array) -> Array:
        q = np.abs(p - c) - h
        return length(np.maximum(q, 0)) + np.minimum(q.max(axis=1), 0) - round_

    return distance


def capsule(a: Point, b: Point, radius: float, top: float | None = None) -> Shape:
    start, along = vec(*a), vec(*b) - vec(*a)
    end = radius if top is None else top

    def distance(p: Array) -> Array:
        t = np.clip((p - start) @ along / float(along @ along), 0, 1)
        return length(p - start - t[:, None] * along) - (radius + (end - radius) * t)

    return distance


def cylinder(centre: Point, radius: float, half: float, axis: int = 1, round_: float = 0.01) -> Shape:
    c = vec(*centre)
    others = [k for k in range(3) if k != axis]

    def distance(p: Array) -> Array:
        q = p - c
        across = length(q[:, others]) - radius + round_
        along = np.abs(q[:, axis]) - half + round_
        return (
            np.minimum(np.maximum(across, along), 0)
            + length(np.maximum(np.stack([across, along], 1), 0))
            - round_
        )

    return distance


def ring(centre: Point, big: float, small: float) -> Shape:
    c = vec(*centre)
    return lambda p: length(np.stack([length((p - c)[:, :2]) - big, (p - c)[:, 2]], 1)) - small


def ground(height: float = 0.0) -> Shape:
    return lambda p: p[:, 1] - height


def wedge(centre: Point, half: Point) -> Shape:
    """A roof: a ridge along x."""
    c, (hx, hy, hz) = vec(*centre), half
    slope = np.array([hy, hz]) / np.hypot(hy, hz)

    def distance(p: Array) -> Array:
        q = np.abs(p - c) * vec(1, 0, 1) + (p - c) * vec(0, 1, 0)
        side = (q[:, 2] - hz) * slope[0] + q[:, 1] * slope[1]
        return np.maximum(np.maximum(side, -q[:, 1]), q[:, 0] - hx) * 0.9

    return distance


def triangle(x: float, low: float, high: float, width: float, z: float) -> Shape:
    """A sail: upright at x, its foot reaching `width` to the right (to the left where negative)."""
    slope = np.array([high - low, abs(width)]) / np.hypot(high - low, width)

    def distance(p: Array) -> Array:
        along, up = (p[:, 0] - x) * np.sign(width), p[:, 1] - low
        edge = (along - abs(width)) * slope[0] + up * slope[1]
        return np.max([-along, -up, edge, np.abs(p[:, 2] - z - 0.12 * along) - 0.02], axis=0)

    return distance


def union(*shapes: Shape) -> Shape:
    return lambda p: np.min([shape(p) for shape in shapes], axis=0)


def minus(shape: Shape, hole: Shape) -> Shape:
    return lambda p: np.maximum(shape(p), -hole(p))


# Paints


def noise(p: Array, seed: int = 0) -> Array:
    """Smooth value noise in [0, 1] of points in space."""
    cell = np.floor(p).astype(np.int64)
    t = (p - cell).astype(np.float32)
    t = t * t * (3 - 2 * t)
    total = np.zeros(len(p), dtype=np.float32)
    for corner in range(8):
        offset = np.array([corner & 1, corner >> 1 & 1, corner >> 2])
        x, y, z = (cell + offset).T
        mixed = (x * 374761393 + y * 668265263 + z * 2147483647 + seed * 1274126177) & 0xFFFFFFFF
        mixed = (mixed ^ (mixed >> 13)) * 1274126177 & 0xFFFFFFFF
        value = ((mixed ^ (mixed >> 16)) & 0xFFFF) / 65535.0
        total += np.prod(np.where(offset, t, 1 - t), axis=1) * value
    return total


def cloudy(p: Array, octaves: int = 4, seed: int = 0) -> Array:
    total = sum(noise(p * 2**k, seed + k) / 2**k for k in range(octaves))
    return np.asarray(total / sum(1 / 2**k for k in range(octaves)), dtype=np.float32)


def mix(a: Sequence[float], b: Sequence[float], t: Array) -> Array:
    return vec(*a) + (vec(*b) - vec(*a)) * np.clip(t, 0, 1)[:, None]


def plain(*colour: float, spots: float = 0.06, scale: float = 9.0) -> Paint:
    return lambda p: vec(*colour) * (1 - spots + 2 * spots * cloudy(p * scale, 3))[:, None]


def wood(p: Array) -> Array:
    plank = np.floor(p[:, 0] / 0.42)
    grain = cloudy(np.stack([p[:, 0] * 26 + plank * 17, p[:, 1] * 3, p[:, 2] * 2.2], 1), 3)
    shade = mix((0.27, 0.13, 0.055), (0.52, 0.29, 0.13), grain * 1.3 - 0.15 + 0.13 * np.sin(plank * 5.1))
    seam = np.abs(p[:, 0] / 0.42 - plank - 0.5) > 0.488
    return np.where(seam[:, None], shade * 0.35, shade)


def grass(p: Array) -> Array:
    return mix((0.06, 0.16, 0.035), (0.22, 0.33, 0.08), cloudy(p * 2.2, 5))


def street(p: Array) -> Array:
    asphalt = mix((0.055, 0.057, 0.062), (0.115, 0.115, 0.12), cloudy(p * 7, 4))
    dash = (np.abs(p[:, 2]) < 0.07) & (np.mod(p[:, 0], 2.4) < 1.3)
    pave = mix((0.36, 0.34, 0.31), (0.47, 0.45, 0.42), cloudy(p * 4, 4))
    joint = np.mod(p[:, 0], 0.8) < 0.03
    away = np.abs(p[:, 2])
    out = np.where(dash[:, None], vec(0.75, 0.74, 0.7), asphalt)
    out = np.where((away > 2.0)[:, None], np.where(joint[:, None], pave * 0.7, pave), out)
    return np.where((away > 3.6)[:, None], grass(p), out)


def brick(wall: Sequence[float]) -> Paint:
    def paint(p: Array) -> Array:
        row = np.floor(p[:, 1] / 0.16)
        along = p[:, 0] + p[:, 2] + row * 0.2
        joint = (np.mod(p[:, 1], 0.16) < 0.018) | (np.mod(along, 0.4) < 0.02)
        tone = (
            vec(*wall)
            * (0.8 + 0.4 * noise(np.stack([np.floor(along / 0.4), row, row * 0], 1) + 0.5))[:, None]
        )
        return np.where(joint[:, None], vec(*wall) * 0.55 + 0.12, tone)

    return paint


def apple(p: Array) -> Array:
    return mix((0.52, 0.02, 0.02), (0.62, 0.5, 0.08), cloudy(p * vec(14, 4, 14), 3) * 1.7 - 0.75)


def peel(p: Array) -> Array:
    return mix((0.86, 0.28, 0.015), (0.95, 0.42, 0.04), cloudy(p * 40, 2))


def stripes(p: Array) -> Array:
    angle = np.arctan2(p[:, 2] - BALLOON[2], p[:, 0] - BALLOON[0])
    band = np.sin(angle * 8) > 0
    return np.where(band[:, None], vec(0.72, 0.05, 0.04), vec(0.93, 0.72, 0.12))


def hills(p: Array) -> Array:
    rock = mix((0.2, 0.19, 0.18), (0.42, 0.39, 0.36), cloudy(p * 0.9, 5))
    green = mix((0.05, 0.12, 0.04), (0.14, 0.22, 0.07), cloudy(p * 1.7, 4))
    height = p[:, 1] + 3 * cloudy(p * 0.25, 3)
    out = np.where((height < 5.6)[:, None], green, rock)
    return np.where((height > 10.4)[:, None], vec(0.88, 0.9, 0.95), out)


def water(p: Array) -> Array:
    return mix((0.03, 0.1, 0.14), (0.07, 0.2, 0.25), cloudy(p * vec(0.5, 1, 2.2), 3))


# Skies


def day(d: Array) -> Array:
    up = np.clip(d[:, 1], 0.02, 1)
    blue = mix((0.62, 0.74, 0.88), (0.13, 0.32, 0.68), up**0.5)
    flat = np.stack([d[:, 0] / (up + 0.12), up * 0, d[:, 2] / (up + 0.12)], 1)
    cover = np.clip(cloudy(flat * 1.1 + 7, 5) * 3.6 - 1.75, 0, 1) * np.clip(up * 5, 0, 1)
    return blue + (vec(0.95, 0.95, 0.96) - blue) * cover[:, None]


def evening(d: Array) -> Array:
    up = np.clip(d[:, 1], 0.0, 1)
    return mix((0.98, 0.62, 0.34), (0.22, 0.34, 0.6), (up * 2.0) ** 0.6)


def room(d: Array) -> Array:
    window = np.exp(-(((d[:, 0] + 0.55) / 0.5) ** 2) - ((d[:, 1] - 0.35) / 0.5) ** 2)
    return mix((0.2, 0.215, 0.22), (0.58, 0.56, 0.52), window)


# Scenes

BALLOON = (3.4, 8.6, -5.0)


def table() -> Scene:
    cup = (0.52, 0.0, 0.12)
    mug = union(
        minus(
            cylinder((cup[0], 0.3, cup[2]), 0.25, 0.3, round_=0.03),
            cylinder((cup[0], 0.42, cup[2]), 0.215, 0.3),
        ),
        minus(ring((cup[0] + 0.27, 0.3, cup[2]), 0.14, 0.038), cylinder((cup[0], 0.3, cup[2]), 0.22, 0.4)),
    )
    stem = capsule((-0.47, 0.52, 0.3), (-0.44, 0.66, 0.27), 0.013)
    return Scene(
        "table",
        "An apple, two oranges, a lemon and a blue cup on a wooden table",
        [
            Thing(ground(), wood, 0.12),
            Thing(box((0, 1.2, -1.9), (6, 3, 0.1)), plain(0.5, 0.49, 0.46, spots=0.03, scale=1.5), 0.0),
            Thing(
                minus(ball((-0.47, 0.29, 0.3), 0.3, (1, 0.95, 1)), ball((-0.47, 0.62, 0.3), 0.1)), apple, 0.6
            ),
            Thing(stem, plain(0.12, 0.07, 0.03)),
            Thing(ball((-0.02, 0.26, -0.12), 0.26), peel, 0.25),
            Thing(ball((-0.62, 0.25, -0.42), 0.25), peel, 0.25),
            Thing(
                union(ball((0.04, 0.17, 0.62), 0.17, (1.25, 1, 1)), ball((0.27, 0.17, 0.62), 0.05)),
                plain(0.92, 0.72, 0.06),
                0.3,
            ),
            Thing(mug, plain(0.04, 0.16, 0.42, spots=0.02), 0.7),
        ],
        eye=(0.25, 1.35, 2.9),
        target=(0.03, 0.26, 0.05),
        zoom=2.75,
        sun=(-0.75, 0.75, 0.5),
        sun_colour=(1.9, 1.7, 1.4),
        sky=room,
    )


def walker(x: float, z: float, coat: Point) -> list[Thing]:
    legs = union(
        capsule((x - 0.16, 0.06, z), (x - 0.02, 0.8, z), 0.07, 0.1),
        capsule((x + 0.2, 0.06, z + 0.05), (x + 0.03, 0.8, z + 0.05), 0.07, 0.1),
    )
    body = union(
        capsule((x, 0.85, z), (x + 0.03, 1.36, z), 0.2, 0.17),
        capsule((x + 0.02, 1.36, z + 0.2), (x + 0.2, 0.92, z + 0.24), 0.065),
        capsule((x + 0.02, 1.36, z - 0.2), (x - 0.17, 0.95, z - 0.22), 0.065),
    )
    return [
        Thing(legs, plain(0.06, 0.07, 0.13)),
        Thing(body, plain(*coat, spots=0.04)),
        Thing(ball((x + 0.05, 1.68, z), 0.14, (0.9, 1.1, 0.9)), plain(0.62, 0.36, 0.25, spots=0.02)),
        Thing(ball((x + 0.02, 1.74, z), 0.145, (0.95, 0.95, 0.97)), plain(0.06, 0.035, 0.02)),
    ]


def car(x: float, z: float) -> list[Thing]:
    places = [(x + dx, 0.31, z + dz) for dx in (-1.1, 1.15) for dz in (0.62, -0.62)]
    wheels = union(*(cylinder(place, 0.31, 0.12, axis=2) for place in places))
    hubs = union(*(cylinder((x + dx, 0.31, z + 0.66), 0.17, 0.1, axis=2) for dx in (-1.1, 1.15)))
    glass = union(
        box((x - 0.15, 1.03, z + 0.02), (0.93, 0.2, 0.67), 0.12),
        box((x - 0.15, 1.03, z), (1.0, 0.2, 0.55), 0.12),
    )
    return [
        Thing(
            union(
                box((x, 0.58, z), (1.9, 0.3, 0.76), 0.18), box((x - 0.15, 0.98, z), (1.02, 0.32, 0.66), 0.24)
            ),
            plain(0.6, 0.03, 0.025, spots=0.01),
            0.9,
        ),
        Thing(glass, plain(0.035, 0.05, 0.065, spots=0.0), 1.0),
        Thing(wheels, plain(0.02, 0.02, 0.022)),
        Thing(hubs, plain(0.5, 0.5, 0.52), 0.8),
        Thing(ball((x + 1.86, 0.62, z + 0.5), 0.1), plain(0.95, 0.92, 0.75), 0.5),
    ]


def house(x: float, z: float, wall: Point, wide: float, tall: float) -> list[Thing]:
    places = [(x + dx, y, z + 1.5) for dx in (-wide / 2, wide / 2) for y in (tall * 0.42, tall * 1.42)]
    panes = union(*(box(place, (0.42, 0.55, 0.06)) for place in places))
    return [
        Thing(box((x, tall, z), (wide, tall, 1.5)), brick(wall)),
        Thing(wedge((x, 2 * tall, z), (wide + 0.25, 1.3, 1.9)), plain(0.18, 0.085, 0.07, spots=0.2, scale=5)),
        Thing(panes, plain(0.1, 0.15, 0.2), 0.9),
        Thing(box((x, 0.85, z + 1.5), (0.4, 0.85, 0.07)), plain(0.05, 0.16, 0.12)),
    ]


def tree(x: float, z: float, size: float, seed: int) -> list[Thing]:
    blobs = np.random.default_rng(seed).normal(0, 0.5 * size, (9, 3))
    crown = [
        ball((x + float(a), 2.5 * size + 0.7 * float(b), z + float(c)), 0.62 * size) for a, b, c in blobs
    ]

    def rough(p: Array) -> Array:
        distance = union(*crown)(p)
        near = distance < 0.4 * size
        distance[near] -= 0.16 * size * (noise(p[near] * (7 / size), seed) - 0.3)
        return distance

    return [
        Thing(
            capsule((x, 0, z), (x, 2.2 * size, z), 0.15 * size, 0.1 * size),
            plain(0.12, 0.075, 0.045, spots=0.3),
        ),
        Thing(
            lambda p: 0.7 * rough(p), lambda p: mix((0.035, 0.1, 0.02), (0.14, 0.25, 0.05), cloudy(p * 3, 4))
        ),
    ]


def lane() -> Scene:
    return Scene(
        "street",
        "A person in a yellow coat and a red car in a street with houses and trees",
        [
            Thing(ground(), street, 0.05),
            *car(1.7, -0.9),
            *walker(-1.5, 2.6, (0.85, 0.55, 0.04)),
            *house(-5.2, -6.4, (0.42, 0.17, 0.11), 2.3, 1.45),
            *house(0.4, -7.0, (0.55, 0.49, 0.38), 2.6, 1.6),
            *house(6.6, -6.5, (0.3, 0.34, 0.38), 2.3, 1.5),
            *tree(-2.4, -4.4, 1.0, 3),
            *tree(4.0, -4.3, 1.15, 8),
        ],
        eye=(-3.0, 1.75, 8.4),
        target=(0.35, 1.5, -1.0),
        zoom=2.35,
        sun=(-0.7, 0.75, 0.62),
        sun_colour=(1.9, 1.75, 1.5),
        sky=day,
        haze=0.006,
    )


def mountains(p: Array) -> Array:
    height = np.full(len(p), -1.2, dtype=np.float32)
    far = np.clip((-p[:, 2] - 8) / 30, 0, 1)
    there = (far > 0) & (p[:, 1] < 19)
    ridge = 1 - np.abs(2 * cloudy(p[there] * vec(0.075, 0, 0.075) + 3, 5) - 1)
    height[there] += far[there] * (19 * ridge**2.2 - 2.5)
    return (p[:, 1] - height) * 0.45


def lake() -> Scene:
    bx, by, bz = BALLOON
    bag = ball((bx, by, bz), 1.5, (1, 1.08, 1))
    corners = [(bx + a, bz + b) for a in (-0.22, 0.22) for b in (-0.22, 0.22)]
    ropes = union(*(capsule((x, by - 2.0, z), (x, by - 2.6, z), 0.02) for x, z in corners))
    sails = union(triangle(-1.9, 0.55, 3.2, 1.35, -1.0), triangle(-2.05, 0.6, 2.5, -1.0, -1.0))
    waves = lambda p: p[:, 1] - 0.05 * noise(p * vec(1.1, 0, 4.5)) - 0.02 * noise(p * vec(3, 0, 11), 4)  # noqa: E731
    return Scene(
        "lake",
        "A striped balloon over a lake with a sailing boat and mountains in the evening",
        [
            Thing(waves, water, 0.9),
            Thing(mountains, hills, 0.0),
            Thing(union(bag, capsule((bx, by - 0.9, bz), (bx, by - 2.0, bz), 1.1, 0.3)), stripes, 0.15),
            Thing(box((bx, by - 2.75, bz), (0.26, 0.22, 0.26)), plain(0.25, 0.13, 0.05)),
            Thing(ropes, plain(0.1, 0.08, 0.06)),
            Thing(capsule((-3.0, 0.16, -1.0), (-0.6, 0.22, -1.0), 0.2, 0.3), plain(0.6, 0.08, 0.05), 0.3),
            Thing(sails, plain(0.95, 0.93, 0.88, spots=0.02)),
            Thing(capsule((-1.97, 0.3, -1.0), (-1.97, 3.4, -1.0), 0.035), plain(0.2, 0.12, 0.06)),
        ],
        eye=(0.0, 2.5, 12.0),
        target=(0.7, 5.2, -8.0),
        zoom=1.8,
        sun=(0.75, 0.38, 0.35),
        sun_colour=(2.9, 1.95, 1.2),
        sky=evening,
        haze=0.007,
    )


# Light


def nearest(scene: Scene, p: Array) -> tuple[Array, NDArray[np.intp]]:
    distances = np.array([thing.distance(p) for thing in scene.things], dtype=np.float32)
    which = distances.argmin(axis=0)
    return distances[which, np.arange(len(p))], which


def march(scene: Scene, start: Array, direction: Array, far: float) -> Array:
    """Distance along each ray to the first surface; infinite where there is none."""
    t = np.full(len(start), 0.02, dtype=np.float32)
    active = np.arange(len(start))
    for _ in range(STEPS):
        d, _ = nearest(scene, start[active] + t[active, None] * direction[active])
        t[active] += d
        active = active[(d > 0.0006 * t[active]) & (t[active] < far)]
        if not len(active):
            break
    return np.where(t < far, t, np.inf).astype(np.float32)


def normals(scene: Scene, p: Array) -> Array:
    e = 0.002
    offsets = vec(1, -1, -1), vec(-1, -1, 1), vec(-1, 1, -1), vec(1, 1, 1)
    return norm(np.sum([k * nearest(scene, p + e * k)[0][:, None] for k in offsets], axis=0))


def sunlight(scene: Scene, p: Array, sun: Array) -> Array:
    """How much of the sun each point sees, with a soft edge."""
    lit = np.ones(len(p), dtype=np.float32)
    t = np.full(len(p), 0.03, dtype=np.float32)
    for _ in range(SHADOW_STEPS):
        d, _ = nearest(scene, p + t[:, None] * sun)
        lit = np.minimum(lit, 11 * d / t)
        t += np.clip(d, 0.02, 0.6)
    return np.clip(lit, 0, 1)


def openness(scene: Scene, p: Array, n: Array) -> Array:
    """How much of the sky each point sees, from five samples along its normal."""
    closed = np.zeros(len(p), dtype=np.float32)
    for k in range(1, 6):
        step = 0.07 * k
        closed += (step - nearest(scene, p + step * n)[0]) / 2**k / step
    return np.clip(1 - 1.15 * closed, 0, 1)


def shade(scene: Scene, p: Array, d: Array, bounces: int) -> Array:
    """Colour of each surface point seen along direction d."""
    sun = norm(vec(*scene.sun))
    n = normals(scene, p)
    _, which = nearest(scene, p)
    colour = np.zeros_like(p)
    for index, thing in enumerate(scene.things):
        mine = which == index
        if mine.any():
            colour[mine] = thing.paint(p[mine])
    gloss = vec(*(thing.gloss for thing in scene.things))[which]
    facing = np.clip(n @ sun, 0, 1) * sunlight(scene, p + 0.004 * n, sun)
    sky_light = (
        scene.sky(norm(n + vec(0, 0.7, 0))) * (0.35 + 0.35 * n[:, 1:2]) * openness(scene, p, n)[:, None]
    )
    out = colour * (facing[:, None] * vec(*scene.sun_colour) + sky_light * 1.3 + 0.02)
    half = norm(sun - d)
    out += (gloss * facing * np.clip((n * half).sum(1), 0, 1) ** 60)[:, None] * vec(*scene.sun_colour) * 0.5
    mirror = norm(d - 2 * (d * n).sum(1, keepdims=True) * n)
    fresnel = gloss * (0.04 + 0.96 * np.clip(1 + (d * n).sum(1), 0, 1) ** 5)
    shiny = fresnel > 0.01
    if bounces and shiny.any():
        seen = render(scene, p[shiny] + 0.01 * n[shiny], mirror[shiny], bounces - 1)
        out[shiny] += fresnel[shiny, None] * seen
    return out


def render(scene: Scene, start: Array, direction: Array, bounces: int = 1) -> Array:
    """Linear colour along each ray."""
    t = march(scene, start, direction, 120.0)
    out = scene.sky(direction)
    hit = np.isfinite(t)
    if hit.any():
        surface = shade(scene, start[hit] + t[hit, None] * direction[hit], direction[hit], bounces)
        clear = np.exp(-scene.haze * t[hit])[:, None]
        out[hit] = surface * clear + scene.sky(direction[hit] * vec(1, 0, 1) + vec(0, 0.05, 0)) * (1 - clear)
    return out


def rays(scene: Scene, width: int, height: int) -> Array:
    forward = norm(vec(*scene.target) - vec(*scene.eye))
    right = norm(np.cross(forward, vec(0, 1, 0)))
    up = np.cross(right, forward)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x = (x + 0.5 - width / 2) / (height / 2)
    y = (height / 2 - y - 0.5) / (height / 2)
    directions = x[..., None] * right + y[..., None] * up + scene.zoom * forward
    return norm(directions.reshape(-1, 3)).astype(np.float32)


def photograph(scene: Scene, rng: np.random.Generator, scale: float = 1.0) -> Image.Image:
    """The scene as a photo with the tones and the grain of a camera."""
    width, height = (round(side * scale * SUPERSAMPLING) for side in SIZE)
    directions = rays(scene, width, height)
    parts = [
        render(scene, np.broadcast_to(vec(*scene.eye), part.shape), part)
        for part in np.array_split(directions, max(1, len(directions) // CHUNK))
    ]
    light = np.concatenate(parts).reshape(height, width, 3)
    k = SUPERSAMPLING
    light = light.reshape(height // k, k, width // k, k, 3).mean((1, 3))
    y, x = np.mgrid[-1 : 1 : light.shape[0] * 1j, -1 : 1 : light.shape[1] * 1j]
    light *= (1 - 0.16 * (x**2 + y**2))[..., None]
    toned = (
        light * (2.51 * light + 0.03) / (light * (2.43 * light + 0.59) + 0.14)
    )  # Narkowicz 2015, filmic curve
    encoded = np.clip(toned, 0, 1) ** (1 / 2.2) + rng.normal(0, 0.006, (*light.shape[:2], 1))
    return Image.fromarray(np.rint(255 * np.clip(encoded, 0, 1)).astype(np.uint8))


def main() -> None:
    """Draw all scenes and list them for the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=WEB_SAMPLES, help="folder of the photos")
    parser.add_argument("--scale", type=float, default=1.0, help="size, for a look in between")
    parser.add_argument("--only", help="name of one scene")
    arguments = parser.parse_args()
    scenes = [scene for scene in (lane(), table(), lake()) if arguments.only in (None, scene.name)]
    rng = np.random.default_rng(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for scene in scenes:
        path = arguments.out / f"{scene.name}.jpg"
        photograph(scene, rng, arguments.scale).save(path, quality=86, optimize=True)
        print(path)
    if arguments.only is None:
        listed = [{"file": f"{s.name}.jpg", "name": s.name.capitalize(), "alt": s.alt} for s in scenes]
        (arguments.out / "samples.json").write_text(json.dumps(listed, indent=2) + "\n")


if __name__ == "__main__":
    main()
