"""Whitened patches of the two photographs in scikit-learn's wheel, as rows of an npy file: the data of docs/laws.md.

    pip install numpy pillow scikit-learn
    python3 docs/natural_images.py patches.npy

Each photograph is whitened by the filter f * exp(-(f/f0)^4) of B. A. Olshausen and D. J. Field, "Emergence of simple-cell
receptive field properties by learning a sparse code for natural images", 1996; of 100 000 patches of 14 x 14 pixels the 60 000
with the most contrast are kept.
"""

import os
import sys

import numpy as np
import sklearn
from PIL import Image

SIDE = 14
PATCHES = 100_000
KEPT = 60_000
CUT_OFF = 0.35  # cycles a pixel


def whitened(path):
    image = np.log1p(np.asarray(Image.open(path).convert("L"), dtype=np.float64))
    image -= image.mean()
    y, x = np.meshgrid(*(np.fft.fftfreq(size) for size in image.shape), indexing="ij")
    frequency = np.hypot(x, y)
    image = np.fft.ifft2(np.fft.fft2(image) * frequency * np.exp(-((frequency / CUT_OFF) ** 4))).real
    return image / image.std()


def main(out):
    folder = os.path.join(os.path.dirname(sklearn.__file__), "datasets", "images")
    images = [whitened(os.path.join(folder, name)) for name in ("china.jpg", "flower.jpg")]
    random = np.random.default_rng(0)
    rows = np.empty((PATCHES, SIDE * SIDE), np.float32)
    for n, row in enumerate(rows):
        image = images[n % 2]
        y, x = random.integers(0, image.shape[0] - SIDE), random.integers(0, image.shape[1] - SIDE)
        row[:] = image[y : y + SIDE, x : x + SIDE].ravel()
    kept = np.sort(np.argsort(rows.std(1))[PATCHES - KEPT :])
    np.save(out, rows[kept])


if __name__ == "__main__":
    main(*sys.argv[1:])
