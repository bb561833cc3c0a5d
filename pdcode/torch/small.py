"""Modules that benchmarks train; configurations name them by this file, which imports PyTorch alone."""

from torch import Tensor, nn


class GPT(nn.Module):
    """A transformer that predicts the next token."""

    def __init__(
        self, width: int = 256, depth: int = 4, heads: int = 4, tokens: int = 256, length: int = 128
    ):
        super().__init__()
        self.token, self.place = nn.Embedding(tokens, width), nn.Embedding(length, width)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(depth)
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, tokens)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return scores, shape (rows, tokens, length), of the token that follows each."""
        length = tokens.shape[1]
        x = self.token(tokens) + self.place.weight[:length]
        mask = nn.Transformer.generate_square_subsequent_mask(length, dtype=x.dtype)
        for block in self.blocks:
            x = block(x, mask, is_causal=True)
        scores: Tensor = self.head(self.norm(x))
        return scores.transpose(1, 2)


def convolutional(width: int = 16, depth: int = 2, normalised: bool = False, classes: int = 10) -> nn.Module:
    """Return convolutions of images in grey, all but the first with a stride, and a layer of means."""
    layers: list[nn.Module] = []
    for number in range(depth):
        inputs, outputs = (1 if not number else width << (number - 1)), width << number
        layers.append(nn.Conv2d(inputs, outputs, 3, 2 if number else 1, 1))
        layers += [nn.BatchNorm2d(outputs)] if normalised else []
        layers.append(nn.ReLU())
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(outputs, classes))
