"""The models as their papers write them: nothing folded, nothing skipped, and no code of re2pix_node."""

import torch
from torch import Tensor, nn
from torch.nn import functional

Tensors = dict[str, Tensor]


def part(tensors: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def linear(tensors: Tensors, name: str, x: Tensor) -> Tensor:
    return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]


def layer_norm(tensors: Tensors, name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, correction=0)
    return (x - mean) / (variance + eps).sqrt() * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]


def attention(weight: Tensor, bias: Tensor, out: Tensors, heads: int, x: Tensor) -> Tensor:
    mha = nn.MultiheadAttention(x.shape[-1], heads, batch_first=True)
    mha.load_state_dict(
        {"in_proj_weight": weight, "in_proj_bias": bias, "out_proj.weight": out["weight"], "out_proj.bias": out["bias"]}
    )
    return mha.eval()(x, x, x, need_weights=True)[0]


def vit(tensors: Tensors, images: Tensor, layers: list[int], antialias: bool, offset: float) -> list[Tensor]:
    """Tokens [B, h * w, C] of DINOv2 after each of these blocks, normalised."""
    patches = functional.conv2d(images, tensors["patch_embed.proj.weight"], tensors["patch_embed.proj.bias"], stride=14)
    batch, width, rows, columns = patches.shape
    stored = tensors["pos_embed"]
    side = round((stored.shape[1] - 1) ** 0.5)
    grid = stored[:, 1:].reshape(1, side, side, width).permute(0, 3, 1, 2)
    if rows == columns == side:
        fitted = grid
    elif offset:
        scale = ((rows + offset) / side, (columns + offset) / side)
        fitted = functional.interpolate(grid, scale_factor=scale, mode="bicubic", antialias=antialias)
    else:
        fitted = functional.interpolate(grid, size=(rows, columns), mode="bicubic", antialias=antialias)
    x = (patches + fitted).reshape(batch, width, -1).transpose(1, 2)
    leading = [(tensors["cls_token"] + stored[:, :1]).repeat(batch, 1, 1)]
    if "register_tokens" in tensors:
        leading.append(tensors["register_tokens"].repeat(batch, 1, 1))
    x = torch.cat([*leading, x], dim=1)
    taken = []
    for i in range(1 + max(layers)):
        block = part(tensors, f"blocks.{i}.")
        y = layer_norm(block, "norm1", x, 1e-6)
        y = attention(block["attn.qkv.weight"], block["attn.qkv.bias"], part(block, "attn.proj."), width // 64, y)
        x = x + block["ls1.gamma"] * y
        y = functional.gelu(linear(block, "mlp.fc1", layer_norm(block, "norm2", x, 1e-6)))
        x = x + block["ls2.gamma"] * linear(block, "mlp.fc2", y)
        if i in layers:
            taken.append(layer_norm(tensors, "norm", x, 1e-6)[:, -rows * columns :])
    return taken


def encode(tensors: Tensors, frame: Tensor, layers: list[int]) -> Tensor:
    """DINO-Foresight's features [h, w, K] of a frame u8 [H, W, 3]."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    image = ((frame / 255 - mean) / std).permute(2, 0, 1)[None]
    x = torch.cat(vit(part(tensors, "dino_v2."), image, layers, antialias=True, offset=0), dim=-1)[0]
    x = (x - tensors["mean"]) / tensors["std"]
    x = (x - tensors["pca_mean"]) @ tensors["pca_components"].T
    return x.reshape(frame.shape[0] // 14, frame.shape[1] // 14, -1)


def next_frame(tensors: Tensors, context: Tensor, heads: int) -> Tensor:
    """Features of four frames [4, h, w, K] -> those of the next, through all layers for all frames."""
    x = linear(tensors, "embed", context)
    x = torch.cat([x, tensors["replace_vector"][0].expand(1, *x.shape[1:])])
    frames, rows, columns, width = x.shape
    for i in range(frames):
        for row in range(rows):
            for column in range(columns):
                axes = [tensors[f"maskvit.pos_embd.emb.d_{a}"][at] for a, at in enumerate((i, row, column))]
                x[i, row, column] = x[i, row, column] + torch.cat(axes)
    x = x.reshape(frames, rows * columns, width)
    layer = 0
    while layers := part(tensors, f"maskvit.transformer.layers.{layer}."):
        y = layer_norm(layers, "0.norm", x).transpose(0, 1)  # a cell's frames attend to one another
        x = x + _mha(layers, "0", heads, y).transpose(0, 1)
        x = x + _mha(layers, "1", heads, layer_norm(layers, "1.norm", x))  # a frame's cells do
        x = x + linear(
            layers, "2.fn.net.3", functional.gelu(linear(layers, "2.fn.net.0", layer_norm(layers, "2.norm", x)))
        )
        layer += 1
    return linear(tensors, "maskvit.fc_out", x)[-1].reshape(rows, columns, -1)


def _mha(layer: Tensors, at: str, heads: int, x: Tensor) -> Tensor:
    mha = part(layer, f"{at}.fn.mha.")
    return attention(mha["in_proj_weight"], mha["in_proj_bias"], part(mha, "out_proj."), heads, x)


def rollout(tensors: Tensors, context: Tensor, heads: int, steps: int) -> list[Tensor]:
    known = list(context)
    for _ in range(steps):
        known.append(next_frame(tensors, torch.stack(known[-4:]), heads))
    return known[4:]


def layers_of(tensors: Tensors, features: Tensor) -> list[Tensor]:
    """Out of the PCA: four maps [1, C, h, w]."""
    x = (features @ tensors["pca_components"] + tensors["pca_mean"]) * tensors["std"] + tensors["mean"]
    return list(x.permute(2, 0, 1)[None].chunk(4, dim=1))


def dpt(tensors: Tensors, maps: list[Tensor]) -> Tensor:
    def convolution(name: str, x: Tensor, **options: int) -> Tensor:
        return functional.conv2d(x, tensors[f"{name}.weight"], tensors.get(f"{name}.bias"), **options)

    def norm(name: str, x: Tensor) -> Tensor:
        mean, variance, scale, shift = (
            tensors[f"{name}.{kind}"][:, None, None] for kind in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (variance + 1e-5).sqrt() * scale + shift

    def residual(name: str, x: Tensor) -> Tensor:
        y = norm(f"{name}.bn1", convolution(f"{name}.conv1", x.relu(), padding=1))
        return x + norm(f"{name}.bn2", convolution(f"{name}.conv2", y.relu(), padding=1))

    def deconvolution(name: str, x: Tensor, stride: int) -> Tensor:
        return functional.conv_transpose2d(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"], stride=stride)

    x = [convolution(f"projects.{i}", layer) for i, layer in enumerate(maps)]
    x[0], x[1] = deconvolution("resize_layers.0", x[0], 4), deconvolution("resize_layers.1", x[1], 2)
    x[3] = convolution("resize_layers.3", x[3], stride=2, padding=1)
    x = [convolution(f"scratch.layer{i + 1}_rn", layer, padding=1) for i, layer in enumerate(x)]
    path = None
    for i in (4, 3, 2, 1):
        at = f"scratch.refinenet{i}"
        path = x[i - 1] if path is None else path + residual(f"{at}.resConfUnit1", x[i - 1])
        path = residual(f"{at}.resConfUnit2", path)
        size = x[i - 2].shape[-2:] if i > 1 else [2 * side for side in path.shape[-2:]]
        path = convolution(f"{at}.out_conv", functional.interpolate(path, size, mode="bilinear", align_corners=True))
    path = norm("scratch.output_conv.1", convolution("scratch.output_conv.0", path, padding=1)).relu()
    return convolution("scratch.output_conv.4", path)
