"""Reads the published files of DINO-Foresight: every tensor must be known, and the tensors give the sizes."""

from pathlib import Path
from typing import Any

from re2pix_node.errors import CheckpointError
from re2pix_node.nets.backbones.dinov2 import dinov2_of
from re2pix_node.nets.checkpoints import Checkpoint, filled, read_checkpoint
from re2pix_node.nets.dino_foresight.dpt import DptHead
from re2pix_node.nets.dino_foresight.graphs import CLASSES, DinoForesight
from re2pix_node.nets.dino_foresight.masked_transformer import MaskedTransformer
from re2pix_node.nets.dino_foresight.pca import PcaBasis

HEADS = 8
LAYERS = 4
CONTEXT = 4
# Settings that the weights do not show: another value gives tensors of the same shapes and another function.
SETTINGS = {
    "feature_extractor": "dino",
    "masking": "simple_replace",
    "seperable_attention": True,
    "seperable_window_size": 1,
    "use_first_last": False,
    "output_activation": "none",
}
BASIS = ("mean", "std", "pca_mean", "pca_components")
# A training that was evaluated with a head also contains that head; a head's file may contain its forecaster.
CARRIED = ("head.",)
CARRIED_BY_HEADS = ("backbone.", *BASIS)


def read_dino_foresight(checkpoint: Path, head: Path) -> DinoForesight:
    """Read the parts of a forecaster's checkpoint (dinof_*.ckpt) and of a segmentation head's (head_segm*.ckpt)."""
    published = read_checkpoint(checkpoint)
    _check_settings(published)
    vit_width = published.shape("dino_v2.cls_token", 3)[-1]
    channels, joined = published.shape("pca_components", 2)
    if joined != LAYERS * vit_width:
        raise CheckpointError(
            f"{checkpoint}: 'pca_components' takes {joined} channels, {LAYERS} layers have {vit_width} each"
        )
    transformer = _transformer(published, channels)
    sizes = [len(position) for position in transformer.maskvit["pos_embd"]["emb"].values()]
    return DinoForesight(
        backbone=dinov2_of(published, "dino_v2."),
        layers=_layers(published),
        basis=_basis(published, channels, joined),
        transformer=transformer,
        head=_head(read_checkpoint(head), vit_width),
        grid=(sizes[1], sizes[2]),
    )


def _check_settings(published: Checkpoint) -> None:
    for name, wanted in SETTINGS.items():
        found = published.settings.get(name, wanted)
        if type(found) is not type(wanted) or found != wanted:
            raise CheckpointError(
                f"{published.path}: was trained with {name} {found!r:.40}, only {wanted!r} can be imported"
            )


def _layers(published: Checkpoint) -> tuple[int, ...]:
    """The blocks whose outputs are the features: from the training's settings, else the last of every quarter."""
    depth = published.count("dino_v2.blocks.")
    quarters = [depth * (i + 1) // LAYERS - 1 for i in range(LAYERS)]
    layers = published.settings.get("d_layers", quarters)
    whole = isinstance(layers, list) and all(type(layer) is int and 0 <= layer < depth for layer in layers)
    if not whole or len(layers) != LAYERS or sorted(set(layers)) != layers:
        raise CheckpointError(f"{published.path}: takes features after the blocks {layers!r:.60} of {depth}")
    return tuple(layers)


def _basis(published: Checkpoint, channels: int, joined: int) -> PcaBasis:
    mean, std, pca_mean = (published.sized(name, (joined,)).double() for name in ("mean", "std", "pca_mean"))
    if not (std > 0).all():
        raise CheckpointError(f"{published.path}: 'std' has values that are not above zero")
    return PcaBasis(mean, std, pca_mean, published.sized("pca_components", (channels, joined)).double())


def _transformer(published: Checkpoint, channels: int) -> MaskedTransformer:
    rows, columns = (published.shape(f"maskvit.pos_embd.emb.d_{i}", 2)[0] for i in (1, 2))
    width = published.shape("embed.weight", 2)[0]
    heads: Any = published.settings.get("heads", HEADS)
    if type(heads) is not int or heads < 1 or width % heads or width % 3:
        raise CheckpointError(
            f"{published.path}: {width} channels cannot be split among {heads!r:.20} heads and 3 axes"
        )
    depth = published.count("maskvit.transformer.layers.")
    tensors = {
        name: tensor
        for name, tensor in published.tensors.items()
        if not name.startswith(("dino_v2.", *CARRIED)) and name not in BASIS
    }
    return filled(
        lambda: MaskedTransformer((rows, columns), channels, width, depth, heads, CONTEXT),
        tensors,
        published.path,
    )


def _head(published: Checkpoint, vit_width: int) -> DptHead:
    prefix = "head."
    strangers = [name for name in published.tensors if not name.startswith((prefix, *CARRIED_BY_HEADS))]
    if strangers:
        raise CheckpointError(
            f"{published.path}: {strangers[0]!a:.100} is unexpected: this is not a head of DINO-Foresight"
        )
    classes = published.shape("head.scratch.output_conv.4.weight", 4)[0]
    if classes != CLASSES:
        raise CheckpointError(
            f"{published.path}: the head has {classes} classes, the {CLASSES} of Cityscapes are needed: "
            "give the segmentation head, head_segm_pca1152.ckpt"
        )
    widths = [published.shape(f"head.projects.{i}.weight", 4)[0] for i in range(LAYERS)]
    channels = published.shape("head.scratch.layer1_rn.weight", 4)[0]
    return filled(
        lambda: DptHead(classes, [vit_width] * LAYERS, channels, widths), published.part(prefix), published.path, prefix
    )
