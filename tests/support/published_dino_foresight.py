"""Compares our import of DINO-Foresight with the published code, on the same weights, at full size.

No test: it needs the sources of github.com/Sta8is/DINO-Foresight and github.com/facebookresearch/dinov2, einops
(`pip install einops`), minutes, and 12 GiB of memory. Without --checkpoint and --head the weights are random.
What the published code computed, and the bundle, are kept in --work: a second run starts from there.

    python -m tests.support.published_dino_foresight --source DINO-Foresight --dinov2 dinov2 --work same --size 224 448
"""

import argparse
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from re2pix_node.bundle.reader import read_bundle
from re2pix_node.cli import main as re2pix
from re2pix_node.engines.session import open_engine
from re2pix_node.nets.backbones.dinov2 import MEAN as IMAGENET_MEAN
from re2pix_node.nets.backbones.dinov2 import STD as IMAGENET_STD
from re2pix_node.nets.proof_frames import proof_frames

STEPS = 3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--dinov2", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="a folder for checkpoints and the bundle")
    parser.add_argument("--size", type=int, nargs=2, default=(224, 448))
    parser.add_argument("--checkpoint", type=Path, help="compare with these weights, not with random ones")
    parser.add_argument("--head", type=Path)
    parser.add_argument("--engines", nargs="*", default=["onnxruntime"])
    options = parser.parse_args()
    kept = options.work / "published.npz"
    if not kept.exists():
        options.work.mkdir(exist_ok=True)
        np.savez(kept, **published_outputs(options))
    published = dict(np.load(kept))
    files = sorted(options.work.glob("*.ckpt"))
    checkpoint, head = (options.checkpoint, options.head) if options.checkpoint else files
    bundle = options.work / "bundle"
    if not bundle.exists():
        arguments = ["--checkpoint", checkpoint, "--head", head, "-o", bundle]
        assert re2pix(["import", "dino-foresight", *map(str, arguments)]) == 0
    for name in options.engines:
        engine, attempts = open_engine(read_bundle(bundle), name, "fp32")
        print(attempts[-1])
        context = [engine.encode(frame[None]) for frame in proof_frames(4, *options.size)]
        outputs = engine.forecast(context)
        report(name, engine.fetch(context[-1]), outputs.features, outputs.labels, published)
        del engine


def published_outputs(options: argparse.Namespace) -> dict[str, Any]:
    torch.manual_seed(0)
    model = published_model(options.source, options.dinov2, settings(tuple(options.size)))
    if options.checkpoint is None:
        randomise(model)
        save(model, options.work)
    else:
        model.load_state_dict(torch.load(options.checkpoint, map_location="cpu")["state_dict"], strict=False)
        head = torch.load(options.head, map_location="cpu")["state_dict"]
        model.head.load_state_dict({name.removeprefix("head."): tensor for name, tensor in head.items()})
    return run_published(model.eval(), tuple(options.size))


def report(name: str, encoded: Any, features: Any, labels: Any, published: dict[str, Any]) -> None:
    def distance(found: Any, wanted: Any) -> float:
        return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))

    print(f"{name}: encoded features, relative L2 {distance(encoded[0], published['now']):.2g}")
    for i in range(STEPS + 1):
        line = f"  horizon {i}: {np.mean(labels[0, i] == published['labels'][i]):.4%} of labels are the same"
        if i:
            line += f", features' relative L2 {distance(features[0, i - 1], published['features'][i - 1]):.2g}"
        print(line)
    print(f"  classes in the published masks: {len(np.unique(published['labels']))}")


@torch.inference_mode()
def run_published(model: Any, size: tuple[int, int]) -> dict[str, Any]:
    frames = torch.from_numpy(proof_frames(4, *size)).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    # The fifth frame is the one that is masked: what it shows must not matter.
    clip = torch.cat([(frames - mean) / std, torch.randn(1, 3, *size)])[None]
    predicted: list[Tensor] = []
    forward = model.forward

    def noted(*arguments: Any) -> Any:
        loss, tokens = forward(*arguments)
        predicted.append(tokens[0, -1].clone())
        return loss, tokens

    model.forward = noted
    now = model.preprocess(clip)[0, 3]
    last, _ = model.sample_unroll(
        clip, torch.zeros(1, *now.shape[:2], 4 * model.feature_dim), step=1, unroll_steps=STEPS
    )
    moments = model.postprocess(torch.stack([now, *predicted])[None])[0]
    assert torch.equal(moments[-1], last[0, -1])
    labels = []
    for moment in moments:
        layers = [part.flatten(0, 1)[None] for part in moment.split(model.feature_dim, dim=-1)]
        labels.append(model.head(layers, model.patch_h, model.patch_w)[0].argmax(0).numpy())
    return {"now": now.numpy(), "features": torch.stack(predicted).numpy(), "labels": np.stack(labels)}


def settings(size: tuple[int, int]) -> argparse.Namespace:
    """What the published training was started with, as its README says."""
    return argparse.Namespace(
        img_size=size, sequence_length=5, batch_size=8, feature_extractor="dino", dinov2_variant="vitb14_reg",
        d_layers=[2, 5, 8, 11], hidden_dim=1152, heads=8, layers=12, dropout=0.1, loss_type="SmoothL1", step=1,
        beta_smoothl1=0.1, masking="simple_replace", train_mask_mode="full_mask", seperable_attention=True,
        seperable_window_size=1, train_mask_frames=1, output_activation="none", use_first_last=False, vis_attn=False,
        use_fc_bias=True, pca_ckpt="random", crop_feats=False, sliding_window_inference=False, high_res_adapt=False,
        eval_modality="segm", num_classes=19, use_bn=True, use_cls=False, nfeats=256, single_step_sample_train=True,
        dpt_out_channels=[128, 256, 512, 512], head_ckpt=None, device=torch.device("cpu"),
    )  # fmt: skip


def published_model(source: Path, dinov2: Path, arguments: argparse.Namespace) -> Any:
    """Their model from their code. What it imports and does not compute with is replaced by empty names."""

    import torchmetrics  # noqa: F401  # looks for torchvision, so before there is an empty one

    class Lightning(nn.Module):
        def save_hyperparameters(self) -> None:
            pass

    class Anything:
        def __init__(self, *_: Any, **__: Any) -> None:
            pass

    stand_ins = {
        "pytorch_lightning": {"LightningModule": Lightning},
        "torchvision": {},
        "torchvision.transforms": {"RandomCrop": Anything, "functional": None},
        "timm": {},
        "huggingface_hub": {"PyTorchModelHubMixin": object, "hf_hub_download": None},
    }
    for name, names in stand_ins.items():
        module = types.ModuleType(name)
        module.__dict__.update(names)
        sys.modules[name] = module
    sys.modules["torchvision"].transforms = sys.modules["torchvision.transforms"]  # type: ignore[attr-defined]
    sys.path[:0] = [str(source), str(dinov2)]
    from dinov2.hub import backbones
    from src import dino_f

    joined, kept = 4 * 768, 1152
    basis = torch.linalg.qr(torch.randn(joined, kept))[0].T.contiguous().numpy()
    pca = types.SimpleNamespace(
        mean_=np.random.default_rng(0).normal(0, 0.1, joined).astype(np.float32), components_=basis
    )
    statistics = np.random.default_rng(1).uniform(0.5, 1.5, (2, joined)).astype(np.float32)
    torch.hub.load = lambda _, name, **__: getattr(backbones, name)(pretrained=False)
    load, torch.load = torch.load, lambda *_, **__: {"pca_model": pca, "mean": statistics[0] - 1, "std": statistics[1]}
    try:
        return dino_f.Dino_f(arguments)
    finally:
        torch.load = load
        for name in stand_ins:
            del sys.modules[name]


@torch.no_grad()
def randomise(model: nn.Module) -> None:
    """Every number random, of a size at which nothing vanishes: as published, a fresh model forecasts zeros."""
    for name, tensor in model.state_dict().items():
        if name in ("pca_mean", "pca_components", "mean", "std") or not tensor.is_floating_point():
            continue
        if tensor.dim() >= 2 and "embed" not in name.split(".")[-1] and "token" not in name:
            tensor.normal_(0, tensor[0].numel() ** -0.5)
        elif name.endswith(("running_var", "gamma")) or (name.endswith("weight") and tensor.dim() == 1):
            tensor.uniform_(0.5, 1.5)
        else:
            tensor.normal_(0, 0.1)


def save(model: nn.Module, folder: Path) -> None:
    state = model.state_dict()
    head = {name: tensor for name, tensor in state.items() if name.startswith("head.")}
    forecaster = {name: tensor for name, tensor in state.items() if name not in head}
    paths = folder / "dinof_random.ckpt", folder / "head_segm_random.ckpt"
    for path, tensors in zip(paths, (forecaster, head), strict=True):
        torch.save({"epoch": 0, "state_dict": tensors, "hyper_parameters": {"args": model.args}}, path)


if __name__ == "__main__":
    main()
