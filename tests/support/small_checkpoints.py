"""Checkpoints with the published layout of DINO-Foresight: small, of random numbers, and named here by hand."""

import argparse
from pathlib import Path

import torch
from torch import Tensor

VIT, DEPTH, REGISTERS, STORED = 128, 4, 2, 5
CHANNELS, WIDTH, LAYERS, HEADS = 48, 96, 2, 8
ROWS, COLUMNS = 4, 6
FUSED, OUT = 16, (8, 12, 16, 16)

Tensors = dict[str, Tensor]


def save_checkpoints(folder: Path, seed: int = 0) -> tuple[Path, Path]:
    """The forecaster's file and the head's, as Lightning writes them."""
    torch.manual_seed(seed)
    forecaster, head = folder / "dinof_small.ckpt", folder / "head_segm_small.ckpt"
    save(forecaster, forecaster_tensors())
    save(head, head_tensors())
    return forecaster, head


def save(path: Path, tensors: Tensors, **settings: object) -> None:
    arguments = argparse.Namespace(**{"heads": HEADS, "d_layers": [0, 1, 2, 3], "img_size": (56, 84), **settings})
    torch.save(
        {
            "epoch": 3,
            "pytorch-lightning_version": "2.4.0",
            "state_dict": tensors,
            "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-4}]}],
            "hparams_name": "args",
            "hyper_parameters": {"args": arguments},
        },
        path,
    )


def forecaster_tensors() -> Tensors:
    joined = 4 * VIT
    components = torch.linalg.qr(torch.randn(joined, CHANNELS))[0].T.contiguous()
    tensors = {
        **{f"dino_v2.{name}": tensor for name, tensor in vit_tensors().items()},
        **linear("embed", CHANNELS, WIDTH),
        "replace_vector": torch.randn(1, 1, 1, 1, WIDTH) * 0.1,
        **linear("maskvit.fc_out", WIDTH, CHANNELS),
        "pca_mean": torch.randn(joined) * 0.1,
        "pca_components": components,
        "mean": torch.randn(joined) * 0.3,
        "std": torch.rand(joined) + 0.5,
    }
    for i, size in enumerate((5, ROWS, COLUMNS)):
        tensors[f"maskvit.pos_embd.emb.d_{i}"] = torch.randn(size, WIDTH // 3) * 0.2
    for layer in range(LAYERS):
        at = f"maskvit.transformer.layers.{layer}"
        for part in (0, 1):
            tensors |= norm(f"{at}.{part}.norm", WIDTH)
            attention = linear(f"{at}.{part}.fn.mha.in_proj", WIDTH, 3 * WIDTH)
            tensors |= {name.replace("in_proj.", "in_proj_"): tensor for name, tensor in attention.items()}
            tensors |= linear(f"{at}.{part}.fn.mha.out_proj", WIDTH, WIDTH)
        tensors |= norm(f"{at}.2.norm", WIDTH)
        tensors |= linear(f"{at}.2.fn.net.0", WIDTH, 4 * WIDTH) | linear(f"{at}.2.fn.net.3", 4 * WIDTH, WIDTH)
    return tensors


def vit_tensors() -> Tensors:
    tensors = {
        "cls_token": torch.randn(1, 1, VIT) * 0.1,
        "pos_embed": torch.randn(1, 1 + STORED**2, VIT) * 0.1,
        "register_tokens": torch.randn(1, REGISTERS, VIT) * 0.1,
        "mask_token": torch.zeros(1, VIT),
        **convolution("patch_embed.proj", 3, VIT, 14),
        **norm("norm", VIT),
    }
    for i in range(DEPTH):
        at = f"blocks.{i}"
        tensors |= norm(f"{at}.norm1", VIT) | norm(f"{at}.norm2", VIT)
        tensors |= linear(f"{at}.attn.qkv", VIT, 3 * VIT) | linear(f"{at}.attn.proj", VIT, VIT)
        tensors |= linear(f"{at}.mlp.fc1", VIT, 4 * VIT) | linear(f"{at}.mlp.fc2", 4 * VIT, VIT)
        tensors |= {f"{at}.ls{j}.gamma": torch.rand(VIT) + 0.2 for j in (1, 2)}
    return tensors


def head_tensors(classes: int = 19) -> Tensors:
    tensors: Tensors = {}
    for i, width in enumerate(OUT):
        tensors |= convolution(f"projects.{i}", VIT, width, 1)
        tensors[f"scratch.layer{i + 1}_rn.weight"] = convolution("", width, FUSED, 3)[".weight"]
        at = f"scratch.refinenet{i + 1}"
        tensors |= convolution(f"{at}.out_conv", FUSED, FUSED, 1)
        for unit in (f"{at}.resConfUnit1", f"{at}.resConfUnit2"):
            for j in (1, 2):
                tensors |= convolution(f"{unit}.conv{j}", FUSED, FUSED, 3) | batch_norm(f"{unit}.bn{j}", FUSED)
    tensors |= convolution("resize_layers.0", OUT[0], OUT[0], 4) | convolution("resize_layers.1", OUT[1], OUT[1], 2)
    tensors |= convolution("resize_layers.3", OUT[3], OUT[3], 3)
    tensors["scratch.output_conv.0.weight"] = convolution("", FUSED, FUSED, 3)[".weight"]
    tensors |= batch_norm("scratch.output_conv.1", FUSED) | convolution("scratch.output_conv.4", FUSED, classes, 1)
    return {f"head.{name}": tensor for name, tensor in tensors.items()}


def linear(name: str, inputs: int, outputs: int) -> Tensors:
    return {f"{name}.weight": torch.randn(outputs, inputs) / inputs**0.5, f"{name}.bias": torch.randn(outputs) * 0.1}


def convolution(name: str, inputs: int, outputs: int, size: int) -> Tensors:
    weight = torch.randn(outputs, inputs, size, size) / (inputs**0.5 * size)
    return {f"{name}.weight": weight, f"{name}.bias": torch.randn(outputs) * 0.1}


def norm(name: str, width: int) -> Tensors:
    return {f"{name}.weight": torch.rand(width) + 0.5, f"{name}.bias": torch.randn(width) * 0.1}


def batch_norm(name: str, width: int) -> Tensors:
    running = {f"{name}.running_mean": torch.randn(width) * 0.1, f"{name}.running_var": torch.rand(width) + 0.5}
    return norm(name, width) | running | {f"{name}.num_batches_tracked": torch.tensor(7)}
