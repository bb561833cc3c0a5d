"""A small GPT in PyTorch that predicts the next byte of pdcode's documentation.

`pdcode run job.toml` trains it over MPI; this file as a program does so by a call, on the virtual clock, and
writes a text of the trained module.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

import pdcode

DOCUMENTS = sorted((Path(pdcode.__file__).parents[1] / "docs").glob("*.md"))
LENGTH = 32


def data():
    """Return rows of bytes, and of the bytes that follow each."""
    text = np.frombuffer(b"".join(path.read_bytes() for path in DOCUMENTS), np.uint8).astype(np.int64)
    rows = np.lib.stride_tricks.sliding_window_view(text, LENGTH + 1)[::LENGTH]
    return rows[:, :-1].copy(), rows[:, 1:].copy()


class GPT(nn.Module):
    def __init__(self, width=32, depth=2, heads=4):
        super().__init__()
        self.token, self.place = nn.Embedding(256, width), nn.Embedding(LENGTH, width)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(depth)
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 256)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(LENGTH), persistent=False)

    def forward(self, tokens):
        """Return scores (rows, 256, length)."""
        length = tokens.shape[1]
        x = self.token(tokens) + self.place.weight[:length]
        for block in self.blocks:
            x = block(x, self.mask[:length, :length], is_causal=True)
        return self.head(self.norm(x)).transpose(1, 2)


def write(module, text, length):
    """Return a text that goes on with likely bytes."""
    with torch.no_grad():
        for _ in range(length):
            tokens = torch.tensor(list(text[-LENGTH:]))[None]
            text += bytes([int(module(tokens)[0, :, -1].argmax())])
    return text.decode(errors="replace")


if __name__ == "__main__":
    trace, module = pdcode.torch.train(GPT, data(), config="job.toml", output="call.h5")
    print(f"loss {trace.progress['loss'][-1]:.2f}, score {trace.progress['accuracy'][-1]:.2f}")
    print(write(module, b"The workers ", 60))
