"""TinyViT as published: names of parameters, sizes, and attention that stays in its windows."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from re2pix_node.errors import CheckpointError
from re2pix_node.nets.backbones.mobilesam import LAYERS, PREFIX, MobileSamEncoder, SamBlock, load_mobilesam


def published(encoder: MobileSamEncoder) -> dict[str, torch.Tensor]:
    """The state dict as the published file has it: under a prefix, beside SAM's decoder, with a classifier."""
    own = {PREFIX + name: tensor for name, tensor in encoder.state_dict().items()}
    others = {"norm_head.weight": torch.ones(320), "head.weight": torch.ones(1000, 320), "head.bias": torch.ones(1000)}
    return own | {PREFIX + name: tensor for name, tensor in others.items()} | {"mask_decoder.x": torch.ones(1)}


def test_parameters_have_the_published_names_and_shapes() -> None:
    state = MobileSamEncoder().state_dict()
    assert state["patch_embed.seq.2.c.weight"].shape == (64, 32, 3, 3)
    assert state["layers.0.blocks.1.conv2.bn.running_mean"].shape == (256,)
    assert state["layers.1.downsample.conv2.c.weight"].shape == (160, 1, 3, 3)
    assert state["layers.2.blocks.5.attn.attention_biases"].shape == (5, 196)
    assert state["layers.3.blocks.1.mlp.fc1.weight"].shape == (1280, 320)
    assert state["neck.3.bias"].shape == (256,)
    # The published file has 298 tensors of this encoder beside the classifier.
    assert len(state) == 298


def test_weights_load_strictly(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = MobileSamEncoder().eval()
    weights = published(encoder)
    frames = torch.randint(0, 256, (1, 64, 96, 3), dtype=torch.uint8)
    torch.save(weights, file := tmp_path / "mobile_sam.pt")
    torch.testing.assert_close(load_mobilesam(file)(frames), encoder(frames))
    del weights[PREFIX + "neck.0.weight"]
    torch.save(weights, file)
    with pytest.raises(CheckpointError, match=r"is not the published mobile_sam\.pt: .*neck\.0\.weight"):
        load_mobilesam(file)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (224, 448)])
def test_layers_have_the_size_they_say(height: int, width: int) -> None:
    frames = torch.zeros((1, height, width, 3), dtype=torch.uint8)
    with torch.inference_mode():
        found = MobileSamEncoder().eval()(frames)
    sizes = {name: tuple(layer.shape) for name, layer in found.items()}
    assert sizes == {name: (1, its.channels, height // its.cell, width // its.cell) for name, its in LAYERS.items()}


def test_attention_stays_in_its_window_and_pads_with_zeros() -> None:
    """Against the same attention written as loops over windows, heads and cells."""
    torch.manual_seed(1)
    block = SamBlock(8, 2, 3).eval()
    torch.nn.init.normal_(block.attn.attention_biases)
    x = torch.randn(1, 8, 4, 5)
    padded = functional.pad(x, (0, 1, 0, 2)).permute(0, 2, 3, 1)[0]
    expected = torch.zeros(6, 6, 8)
    for top in (0, 3):
        for left in (0, 3):
            cells = [(top + row, left + column) for row in range(3) for column in range(3)]
            normed = block.attn.norm(torch.stack([padded[cell] for cell in cells]))
            parts = block.attn.qkv(normed).view(9, 2, 3, 4)
            mixed = torch.zeros(9, 2, 4)
            for head in range(2):
                query, key, value = parts[:, head].unbind(1)
                scores = query @ key.T / 2
                for i, (row, column) in enumerate(cells):
                    for j, (other_row, other_column) in enumerate(cells):
                        apart = abs(row - other_row) * 3 + abs(column - other_column)
                        scores[i, j] += block.attn.attention_biases[head, apart]
                mixed[:, head] = scores.softmax(1) @ value
            for cell, out in zip(cells, block.attn.proj(mixed.flatten(1)), strict=True):
                expected[cell] = out
    found = block._in_windows(x.permute(0, 2, 3, 1))[0]
    torch.testing.assert_close(found, expected[:4, :5])
