"""A small GPT, written once for nano and for PyTorch: only the modules ``nn`` and ``F`` differ."""

from __future__ import annotations

from typing import Any

VOCABULARY, WIDTH, HEADS, LAYERS, LENGTH = 65, 128, 4, 4, 128


def gpt(
    nn: Any,
    F: Any,  # noqa: N803  (its usual name)
    vocabulary: int = VOCABULARY,
    width: int = WIDTH,
    heads: int = HEADS,
    layers: int = LAYERS,
    length: int = LENGTH,
) -> Any:
    """Tokens (n, at most ``length``) to scores (n, the same, ``vocabulary``).

    Pre-norm blocks, learned positions, a GELU layer four times as wide, causal attention
    with one product for query, key and value; weights are drawn with a deviation of 0.02.

    Source: A. Radford et al., "Language models are unsupervised multitask learners", 2019.

    Args:
        nn, F: ``nano.nn`` and ``nano.nn.functional``, or PyTorch's.
    """

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv = nn.Linear(width, 3 * width)
            self.proj = nn.Linear(width, width)

        def forward(self, x: Any) -> Any:
            n, t, c = x.shape
            q, k, v = (
                part.view(n, t, heads, c // heads).transpose(1, 2)
                for part in self.qkv(x).split(c, dim=2)
            )
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.proj(y.transpose(1, 2).reshape(n, t, c))

        def attention_flops(self, x: Any) -> int:
            """Of q k^T and of its product with v; the mask's half is counted, as is usual."""
            n, t, c = x.shape
            return 2 * 2 * n * t * t * c

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ln1 = nn.LayerNorm(width)
            self.attention = Attention()
            self.ln2 = nn.LayerNorm(width)
            self.mlp = nn.Sequential(
                nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
            )

        def forward(self, x: Any) -> Any:
            x = x + self.attention(self.ln1(x))
            return x + self.mlp(self.ln2(x))

    class GPT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Embedding(vocabulary, width)
            self.position = nn.Embedding(length, width)
            self.blocks = nn.Sequential(*[Block() for _ in range(layers)])
            self.ln = nn.LayerNorm(width)
            self.head = nn.Linear(width, vocabulary, bias=False)
            for module in self.modules():
                if isinstance(module, nn.Linear | nn.Embedding):
                    nn.init.normal_(module.weight, std=0.02)
                if isinstance(module, nn.Linear) and module.bias is not None:
                    nn.init.zeros_(module.bias)

        def forward(self, tokens: Any) -> Any:
            x = self.token(tokens) + self.position.weight[: tokens.shape[1]]
            return self.head(self.ln(self.blocks(x)))

    return GPT()
