"""Makes moving pictures with exact flow from still ones: a background and a piece of another picture, each on its path.

Real footage has no exact flow. A real picture that is moved by us has: flow is learnt on real textures too.
"""

import torch
from torch import Tensor
from torch.nn import functional

from re2pix_node.bundle.manifest import UNLABELLED
from re2pix_node.training.mover.augment import Chunk, normal, uniform

NEAR = 0.75  # share of the picture that is in view at the middle of the path
# Standard deviations a frame: pan (1 = half the height), zoom and roll, perspective.
PAN, TURN, TILT, JOLT = 0.05, 0.03, 0.015, 0.008


def moving_stills(behind: Tensor, ahead: Tensor, length: int, steps: int, g: torch.Generator) -> Chunk:
    """Pictures u8 [n, H, W, 3] of backgrounds and of what moves before them -> chunks of `length` frames."""
    n, height, width = behind.shape[:3]
    half = height // 2, width // 2
    views = _paths(n, length, g)
    own = _paths(n, length, g)
    blob = _blobs(n, half, g)
    cover = _sampled(blob[:, None], own, (height, width), "zeros").clamp(0, 1)
    frames = [
        _sampled(x.permute(0, 3, 1, 2).float()[:, None], v, (height, width)) for x, v in ((behind, views), (ahead, own))
    ]
    pictures = frames[0] + cover * (frames[1] - frames[0])
    front = _sampled(blob[:, None], own, half, "zeros")[:, :, 0] > 0.5
    flows, seen = _flows(views, own, front, steps)
    labels = torch.full((n, length, *half), UNLABELLED, dtype=torch.uint8, device=behind.device)
    exact = torch.zeros(n, dtype=torch.bool, device=behind.device)
    return Chunk(pictures.round().byte().permute(0, 1, 3, 4, 2), labels, flows, seen, exact)


def _paths(n: int, length: int, g: torch.Generator) -> Tensor:
    """[n, length, 3, 3]: a place of the frame -> its place in the still picture. A steady motion with some jolts."""
    strength = uniform(g, n, 1) * 2
    pan, turn, tilt = (scale * strength * normal(g, n, 2) for scale in (PAN, TURN, TILT))
    zero = torch.zeros_like(pan[:, 0])
    rows = [
        turn[:, 0],
        -turn[:, 1] / 2,
        pan[:, 0],
        turn[:, 1] / 2,
        turn[:, 0],
        pan[:, 1],
        tilt[:, 0] / 4,
        tilt[:, 1],
        zero,
    ]
    change = torch.stack(rows, 1).view(n, 1, 3, 3)
    time = torch.arange(length, device=g.device).view(1, -1, 1, 1) - length / 2
    path = torch.linalg.matrix_exp(change * time)
    jolt = JOLT * uniform(g, n, 1, 1) * normal(g, n, length, 2)
    path[..., :2, 2] += jolt
    view = torch.diag(torch.tensor([NEAR, NEAR, 1.0], device=g.device))
    seen: Tensor = view @ path
    return seen


def _blobs(n: int, size: tuple[int, int], g: torch.Generator) -> Tensor:
    """[n, 1, h, w], above 0.5 inside of some smooth shapes; a third of all have none."""
    noise = functional.interpolate(normal(g, n, 1, 5, 9), size, mode="bicubic")
    least = 0.5 + uniform(g, n, 1, 1, 1)
    least = torch.where(uniform(g, n, 1, 1, 1) < 1 / 3, torch.full_like(least, 1e3), least)
    return (0.5 + 6 * (noise - least)).clamp(-1, 2)


def _places(views: Tensor, points: Tensor) -> Tensor:
    """Points [..., h, w, 2] through homographies [..., 3, 3]."""
    found = torch.einsum("...ij,...hwj->...hwi", views[..., :2], points) + views[..., None, None, :, 2]
    return found[..., :2] / found[..., 2:].clamp(min=0.1)


def _points(size: tuple[int, int], device: torch.device) -> Tensor:
    height, width = size
    rows = (torch.arange(height, device=device) + 0.5) * (2 / height) - 1
    columns = ((torch.arange(width, device=device) + 0.5) * (2 / width) - 1) * (width / height)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x, y], -1)


def _sampled(pictures: Tensor, views: Tensor, size: tuple[int, int], padding: str = "reflection") -> Tensor:
    """[n, 1, C, H, W] seen along views [n, L, 3, 3] -> [n, L, C, h, w]."""
    n, length = views.shape[:2]
    limit = torch.tensor([size[1] / size[0], 1.0], device=views.device)
    grid = _places(views, _points(size, views.device)) / limit
    pictures = pictures.expand(-1, length, -1, -1, -1).flatten(0, 1)
    seen = functional.grid_sample(pictures, grid.flatten(0, 1), padding_mode=padding, align_corners=False)
    return torch.unflatten(seen, 0, (n, length))


def _flows(views: Tensor, own: Tensor, front: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Backward flows by 1 .. steps frames [n, L, steps, 2, h, w] in pixels, and whether the place was visible there."""
    size = (front.shape[-2], front.shape[-1])
    points = _points(size, front.device)
    unit, limit = size[0] / 2, torch.tensor([size[1] / size[0], 1.0], device=front.device)
    time = torch.arange(front.shape[1], device=front.device)[:, None, None]
    flows, seen = [], []
    for step in range(1, steps + 1):
        where = [_places(torch.linalg.inv(torch.roll(view, step, 1)), _places(view, points)) for view in (views, own)]
        place = torch.where(front[..., None], where[1], where[0])
        inside = (place.abs() < limit).all(-1) & (time >= step)
        was = functional.grid_sample(
            torch.roll(front, step, 1).float().flatten(0, 1)[:, None],
            (place / limit).flatten(0, 1),
            mode="nearest",
            align_corners=False,
        )
        flows.append(((place - points) * unit).permute(0, 1, 4, 2, 3))
        seen.append(inside & ((was.view_as(front.float()) > 0.5) == front))
    return torch.stack(flows, 2), torch.stack(seen, 2)
