"""A convolutional network in PyTorch, normalised by batch or not, with dropout, on scikit-learn's digits.

`pdcode run job.toml` trains it over MPI; this file as a program does so by a call, on the virtual clock, and
saves the trained weights.
"""

import numpy as np
from torch import nn


def data():
    """Return images (rows, 1, 8, 8) and their classes."""
    from sklearn.datasets import load_digits  # here, as only rank 0 needs it

    digits = load_digits()
    return np.float32(digits.images / 16)[:, None], digits.target


def scaled():
    """Return the same, each pixel less its mean and by a scale of its own and all."""
    images, classes = data()
    images -= images.mean(0)
    squares = np.square(images).mean(0)
    return images / np.sqrt((squares + squares.mean()) / 2), classes


def convolution(inputs, outputs, stride, normed):
    layer = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=not normed)
    return layer, nn.BatchNorm2d(outputs) if normed else nn.Identity(), nn.ReLU()


class CNN(nn.Module):
    def __init__(self, width=16, dropout=0.2, normed=True):
        super().__init__()
        self.features = nn.Sequential(
            *convolution(1, width, 1, normed),
            *convolution(width, 2 * width, 2, normed),
            *convolution(2 * width, 2 * width, 1, normed),
        )
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * width, 10))

    def forward(self, images):
        return self.head(self.features(images).mean((2, 3)))


if __name__ == "__main__":
    from safetensors.torch import save_file

    import pdcode

    trace, module = pdcode.torch.train(CNN, data(), config="job.toml", output="call.h5")
    save_file(module.state_dict(), "cnn.safetensors")  # of a plain module again
    weights = sum(each.numel() for each in module.parameters())
    print(f"{weights} weights, score {trace.progress['accuracy'][-1]:.3f}")
