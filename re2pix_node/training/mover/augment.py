"""Imitates other cameras, hands and weather: changes pictures before encoding, with their labels and flow."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from re2pix_node.bundle.manifest import UNLABELLED


@dataclass
class Chunk:
    """Consecutive frames of some clips, on the device."""

    pictures: Tensor  # u8 [n, L, H, W, 3]
    labels: Tensor  # u8 [n, L, H / 2, W / 2]
    flows: Tensor  # f32 [n, L, K, 2, H / 2, W / 2], backward by 1 .. K frames, in pixels of half size
    seen: Tensor  # bool [n, L, K, H / 2, W / 2]
    exact: Tensor  # bool [n]: the labels are true; others are a teacher's, or there are none


def augmented(chunk: Chunk, generator: torch.Generator, styles: Tensor | None = None) -> Chunk:
    """Change a chunk; `styles` are pictures [m, H, W, 3] whose look some chunks imitate."""
    views = _views(chunk, generator)
    pictures = _coloured(_moved_pictures(chunk.pictures, views), generator, styles)
    labels, flows, seen = _moved_maps(chunk, views)
    return Chunk(pictures, labels, flows, seen, chunk.exact)


def uniform(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device)


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, device=generator.device)


def _views(chunk: Chunk, g: torch.Generator) -> Tensor:
    """[n, L, 3, 3]: maps places of the changed picture to the true one, both from -1 to 1 on the shorter side."""
    n, length = chunk.pictures.shape[:2]
    wide = chunk.pictures.shape[3] / chunk.pictures.shape[2]
    time = torch.arange(length, device=g.device)
    # A hand or a road shakes the camera: a walk's swing, and jolts.
    strength = uniform(g, n, 1) ** 2 * (uniform(g, n, 1) < 0.55)
    swing = 2 * math.pi * (uniform(g, n, 1) * 0.5 * time + uniform(g, n, 1))
    up = strength * (0.06 * torch.sin(swing) + 0.035 * normal(g, n, length))
    side = strength * (0.06 * torch.sin(swing / 2 + 1) + 0.035 * normal(g, n, length))
    side = side + strength * 0.05 * normal(g, n, 1) * (time - length / 2)  # turns
    roll = strength * 0.02 * normal(g, n, length) + 0.03 * normal(g, n, 1)
    grow = 1 + strength * 0.01 * normal(g, n, length)
    zoom = 1 / (1 + 0.4 * uniform(g, n, 1) ** 1.5 + 0.12 * strength)
    margin = (1 - zoom).clamp(min=0)
    across = margin * (2 * uniform(g, n, 1) - 1) * wide
    down = margin * (2 * uniform(g, n, 1) - 1)
    flip = torch.where(uniform(g, n, 1) < 0.5, -1.0, 1.0)
    scale = zoom * grow
    cosine, sine = torch.cos(roll) * scale, torch.sin(roll) * scale
    view = torch.zeros(n, length, 3, 3, device=g.device)
    view[..., 0, 0], view[..., 0, 1], view[..., 0, 2] = cosine * flip, -sine, across + side
    view[..., 1, 0], view[..., 1, 1], view[..., 1, 2] = sine * flip, cosine, down + up
    view[..., 2, 2] = 1
    return view


def _grid(views: Tensor, height: int, width: int) -> Tensor:
    """[..., 3, 3] -> places in the true picture [..., height, width, 2], from -1 to 1 on the shorter side."""
    rows = (torch.arange(height, device=views.device) + 0.5) * (2 / height) - 1
    columns = ((torch.arange(width, device=views.device) + 0.5) * (2 / width) - 1) * (width / height)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    places = torch.stack([x, y, torch.ones_like(x)], -1)
    return torch.einsum("...ij,hwj->...hwi", views[..., :2, :], places)


def _moved_pictures(pictures: Tensor, views: Tensor) -> Tensor:
    height, width = pictures.shape[2:4]
    planes = pictures.flatten(0, 1).permute(0, 3, 1, 2).float()
    grid = _grid(views, height, width).flatten(0, 1)
    grid = grid / torch.tensor([width / height, 1.0], device=grid.device)
    moved = functional.grid_sample(planes, grid, padding_mode="reflection", align_corners=False)
    return torch.unflatten(moved, 0, pictures.shape[:2])


def _moved_maps(chunk: Chunk, views: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    n, length, ahead = chunk.flows.shape[:3]
    height, width = chunk.labels.shape[-2:]
    places = _grid(views, height, width)  # [n, L, h, w, 2]
    grid = (places / torch.tensor([width / height, 1.0], device=places.device)).flatten(0, 1)
    inside = torch.unflatten((grid.abs() <= 1).all(-1), 0, (n, length))
    labels = functional.grid_sample(
        chunk.labels.flatten(0, 1)[:, None].float(), grid, mode="nearest", align_corners=False
    )
    labels = torch.unflatten(labels[:, 0], 0, (n, length))
    labels = torch.where(inside, labels, torch.full_like(labels, UNLABELLED)).byte()
    flows = functional.grid_sample(
        chunk.flows.flatten(2, 3).flatten(0, 1), grid, align_corners=False, padding_mode="border"
    )
    flows = torch.unflatten(torch.unflatten(flows, 0, (n, length)), 2, (ahead, 2)).permute(0, 1, 2, 4, 5, 3)
    seen = functional.grid_sample(chunk.seen.flatten(0, 1).float(), grid, mode="nearest", align_corners=False)
    seen = torch.unflatten(seen, 0, (n, length)) > 0.5
    seen = seen & inside[:, :, None]
    back = torch.linalg.inv(views)
    unit = height / 2  # pixels of half size in 1
    own = _grid(torch.eye(3, device=views.device), height, width)
    found = []
    for step in range(1, ahead + 1):
        target = places + flows[:, :, step - 1] / unit
        earlier = torch.roll(back, step, 1)  # the first `step` frames have no flow and nothing visible
        target = torch.einsum("nlij,nlhwj->nlhwi", earlier[..., :2, :2], target) + earlier[:, :, None, None, :2, 2]
        found.append((target - own) * unit)
    moved = torch.stack(found, 2).permute(0, 1, 2, 5, 3, 4)
    where = torch.stack(found, 2) + own * unit
    limit = torch.tensor([width / height, 1.0], device=where.device) * unit
    return labels, moved, seen & (where.abs() <= limit).all(-1)


def _coloured(planes: Tensor, g: torch.Generator, styles: Tensor | None) -> Tensor:
    """f32 [n, L, 3, H, W], 0 to 255 -> u8 [n, L, H, W, 3]."""
    n, length = planes.shape[:2]

    def each(*extra: int) -> tuple[int, ...]:
        return (n, *extra, *(1,) * (5 - 1 - len(extra)))

    x = planes
    if styles is not None and len(styles):
        taken = torch.randint(len(styles), (n,), generator=g, device=g.device)
        x = torch.where(uniform(g, *each()) < 0.3, _styled(x, styles[taken].permute(0, 3, 1, 2).float(), g), x)
    x = x / 255
    exposure = torch.exp(0.3 * normal(g, *each()) + 0.03 * normal(g, *each(length)))
    tint = torch.exp(0.09 * normal(g, *each(1, 3)))
    x = (x * exposure * tint).clamp(min=1e-4)
    x = x ** torch.exp(0.3 * normal(g, *each()))
    grey = x.mean(2, keepdim=True)
    x = grey + (x - grey) * (1 + 0.45 * (2 * uniform(g, *each()) - 1))
    middle = x.mean((1, 2, 3, 4), keepdim=True)
    x = middle + (x - middle) * torch.exp(0.25 * normal(g, *each()))
    soft = functional.avg_pool2d(functional.pad(x.flatten(0, 1), (1,) * 4, mode="replicate"), 3, 1).view_as(x)
    blur = uniform(g, *each()) * 1.6 - 0.7  # below 0 it sharpens a little
    x = x + (soft - x) * torch.where(uniform(g, *each()) < 0.5, blur, torch.zeros_like(blur))
    noise = 0.03 * uniform(g, *each()) ** 2 * normal(g, *x.shape)
    return ((x + noise).clamp(0, 1) * 255).round().byte().permute(0, 1, 3, 4, 2)


def _styled(x: Tensor, other: Tensor, g: torch.Generator) -> Tensor:
    """Give low frequencies of colour the strength of another picture; phases stay."""
    spectrum = torch.fft.rfft2(x)
    amplitude, wanted = spectrum.abs(), torch.fft.rfft2(other)[:, None].abs()
    rows = torch.fft.fftfreq(x.shape[-2], device=x.device)[:, None].abs()
    columns = torch.fft.rfftfreq(x.shape[-1], device=x.device)[None]
    reach = 0.004 + 0.03 * uniform(g, x.shape[0], 1, 1, 1, 1) ** 2
    low = (torch.maximum(rows, columns) <= reach).float()
    mixed = amplitude + low * (wanted - amplitude)
    styled: Tensor = torch.fft.irfft2(spectrum / amplitude.clamp(min=1e-6) * mixed, s=x.shape[-2:])
    return styled.clamp(0, 255)
