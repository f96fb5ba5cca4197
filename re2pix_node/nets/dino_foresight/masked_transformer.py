"""The masked feature transformer of DINO-Foresight: forecasts the next frame's features from the previous frames.

The frames of a context and one masked frame pass through layers that attend along time in each cell, then along space
in each frame. The output at the masked frame is the forecast. Parameters have the names of the published files.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

SMOOTH_L1_BETA = 0.1


class MaskedAttention(nn.Module):
    """Multi-head attention with the parameters of nn.MultiheadAttention; only the last tokens are queries."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor, queries: int) -> Tensor:
        """x [B, N, D] -> [B, queries, D], for the last `queries` tokens."""
        width = x.shape[-1]
        if queries == x.shape[1]:
            query, key, value = functional.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        else:
            query = functional.linear(x[:, -queries:], self.in_proj_weight[:width], self.in_proj_bias[:width])
            key, value = functional.linear(x, self.in_proj_weight[width:], self.in_proj_bias[width:]).chunk(2, dim=-1)
        query, key, value = (
            torch.unflatten(part, -1, (self.heads, -1)).transpose(1, 2) for part in (query, key, value)
        )
        dropout = self.dropout if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return out


def _feed_forward(width: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * width, width), nn.Dropout(dropout)
    )


def _with_norm(width: int, name: str, function: nn.Module) -> nn.ModuleDict:
    return nn.ModuleDict({"norm": nn.LayerNorm(width), "fn": nn.ModuleDict({name: function})})


class MaskedLayer(nn.ModuleList):
    """Attention along time, attention along space, feed-forward; each on normalised input, with a residual."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__(
            [
                _with_norm(width, "mha", MaskedAttention(width, heads, dropout)),
                _with_norm(width, "mha", MaskedAttention(width, heads, dropout)),
                _with_norm(width, "net", _feed_forward(width, dropout)),
            ]
        )

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """x [B, T, cells, D] -> [B, frames, cells, D]: only the last `frames` frames are computed, from all frames."""
        parts: list[Any] = list(self)
        temporal, spatial, feed_forward = parts
        batch, _, cells, _ = x.shape
        by_cell = temporal["norm"](x.transpose(1, 2).flatten(0, 1))
        seen = temporal["fn"]["mha"](by_cell, frames).unflatten(0, (batch, cells)).transpose(1, 2)
        x = x[:, -frames:] + seen
        by_frame = spatial["norm"](x.flatten(0, 1))
        x = x + spatial["fn"]["mha"](by_frame, cells).unflatten(0, (batch, frames))
        out: Tensor = x + feed_forward["fn"]["net"](feed_forward["norm"](x))
        return out


class MaskedTransformer(nn.Module):
    def __init__(
        self,
        grid: tuple[int, int],
        channels: int = 1152,
        width: int = 1152,
        depth: int = 12,
        heads: int = 8,
        context: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.context = context
        self.embed = nn.Linear(channels, width)
        self.replace_vector = nn.Parameter(torch.empty(1, 1, 1, 1, width))
        sizes = (context + 1, *grid)
        positions = {f"d_{i}": nn.Parameter(torch.empty(size, width // 3)) for i, size in enumerate(sizes)}
        output = nn.Linear(width, channels)
        # As published: a new model forecasts the same vector everywhere, so it has no random guesses to unlearn.
        nn.init.zeros_(output.weight)
        self.maskvit: Any = nn.ModuleDict(
            {
                "pos_embd": nn.ModuleDict({"emb": nn.ParameterDict(positions)}),
                "transformer": nn.ModuleDict(
                    {"layers": nn.ModuleList(MaskedLayer(width, heads, dropout) for _ in range(depth))}
                ),
                "fc_out": output,
            }
        )
        for parameter in (self.replace_vector, *positions.values()):
            nn.init.trunc_normal_(parameter, std=0.02)

    def loss(self, frames: Tensor) -> Tensor:
        """Smooth L1 between the last of these frames [B, T + 1, h, w, C] and its forecast from the others."""
        return functional.smooth_l1_loss(self(frames[:, :-1]), frames[:, -1], beta=SMOOTH_L1_BETA)

    def forward(self, context: Tensor) -> Tensor:
        """Features of T frames [B, T, h, w, C] -> those of the next [B, h, w, C]."""
        return self.next_frame(self.embed(context), self.positions())

    def rollout(self, context: Sequence[Tensor], steps: int, positions: Tensor | None = None) -> list[Tensor]:
        """The next `steps` frames from T frames, each [B, h, w, C]: every forecast pushes out the oldest frame.

        As published, the window slides in feature space, and its last, masked place never contains a forecast.
        """
        positions = self.positions() if positions is None else positions
        window = [self.embed(frame) for frame in context]
        forecasts: list[Tensor] = []
        for _ in range(steps):
            if forecasts:
                window = [*window[1:], self.embed(forecasts[-1])]
            forecasts.append(self.next_frame(torch.stack(window, dim=1), positions))
        return forecasts

    def next_frame(self, embedded: Tensor, positions: Tensor) -> Tensor:
        """Embedded frames [B, T, h, w, D] and the positions of T + 1 -> features [B, h, w, C]."""
        batch, _, rows, columns, _ = embedded.shape
        masked = (self.replace_vector + positions[:, -1:]).expand(batch, -1, -1, -1, -1)
        x = torch.cat([embedded + positions[:, :-1], masked], dim=1).flatten(2, 3)
        layers = self.maskvit["transformer"]["layers"]
        for i, layer in enumerate(layers):
            # The last layer does not need the context's output.
            x = layer(x, 1 if i == len(layers) - 1 else self.context + 1)
        forecast: Tensor = self.maskvit["fc_out"](x[:, -1])
        return torch.unflatten(forecast, 1, (rows, columns))

    def positions(self) -> Tensor:
        """[1, T + 1, h, w, D]: a third of the width for each of time, row and column."""
        time, rows, columns = self.maskvit["pos_embd"]["emb"].values()
        shape = (len(time), len(rows), len(columns), -1)
        return torch.cat(
            [
                time[:, None, None].expand(shape),
                rows[None, :, None].expand(shape),
                columns[None, None].expand(shape),
            ],
            dim=-1,
        )[None]
