"""A user's file: small modules of PyTorch, their rows, a loss and a score."""

from functools import cache

import numpy as np
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

NAME = "digits"


@cache
def digits():
    from sklearn.datasets import load_digits  # takes long; rank 0 sends the rows

    return load_digits()


def data():
    """Two hundred digits, 8 × 8."""
    return (digits().images[:200] / 16).astype(np.float32)[:, None], digits().target[:200]


def flat():
    images, targets = data()
    return images.reshape(len(images), -1), targets


def perceptron(hidden=12):
    return nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))


class Convolutions(nn.Module):
    """Convolutions with batch normalisation and dropout, and a layer that is not used."""

    def __init__(self, width=8):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(width, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU())
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(144, 10))
        self.unused = nn.Linear(2, 2)

    def forward(self, images):
        return self.head(self.second(self.first(images)))


class Sequences(nn.Module):
    """A transformer over the rows of an image, whose input and output embeddings are tied."""

    def __init__(self, width=16):
        super().__init__()
        self.embed = nn.Embedding(17, width)
        layer = nn.TransformerEncoderLayer(width, 2, 2 * width, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 17, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        return self.head(self.norm(self.encoder(self.embed(tokens[:, :-1]))))


def lines():
    """Middle columns of digits as tokens."""
    return ((digits().images[:200, :, 4]).astype(np.int64),)


def next_token(module, tokens):
    outputs = module(tokens)
    return nn.functional.cross_entropy(outputs.flatten(0, 1), tokens[:, 1:].flatten())


def share(module, tokens):
    return (module(tokens).argmax(-1) == tokens[:, 1:]).double().mean()


class Bounded(nn.Module):
    """A perceptron with spectral normalisation, whose buffers matter, and a running mean of its inputs."""

    def __init__(self):
        super().__init__()
        self.first, self.last = spectral_norm(nn.Linear(64, 20)), spectral_norm(nn.Linear(20, 10))
        self.register_buffer("mean", torch.zeros(64))
        self.register_buffer("scale", torch.tensor(5.0), persistent=False)

    def forward(self, x):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
        return self.scale * self.last(torch.relu(self.first(x - self.mean)))


class Mixed(nn.Module):
    """Convolutions with all of these, before a transformer."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout(0.1)
        )
        self.encoder = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
        self.head = spectral_norm(nn.Linear(16, 10))

    def forward(self, images):
        tokens = self.first(images).flatten(2).transpose(1, 2)
        return 5 * self.head(self.encoder(tokens).mean(1))


class Batches(torch.utils.data.Dataset):
    """A data set in which an item is a pair."""

    def __len__(self):
        return 200

    def __getitem__(self, number):
        return tuple(each[number] for each in flat())


def vector(module, x, y):
    return module(x)
