"""A sparse autoencoder of scikit-learn's digits: each image is a few of 256 learned strokes.

    pip install "gossamer[vision]"
    python core/examples/autoencoder.py

It printed

    2.0 of 256 codes an image, 15 used at all: 49.8% of the variance explained
    5.0 of 256 codes an image, 46 used at all: 71.9% of the variance explained
    10.0 of 256 codes an image, 75 used at all: 82.9% of the variance explained
"""

import torch
from sklearn.datasets import load_digits

import gossamer as gs

EPOCHS, CODES = 30, 256
images = torch.tensor(load_digits(return_X_y=True)[0], dtype=torch.float32) / 16
train, test = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))].split([1500, 297])

for k in (2, 5, 10):
    torch.manual_seed(0)
    model = gs.nn.SparseAutoencoder(64, CODES, gs.nn.TopK(k))
    masking = gs.sparsify(model, 0.5, score="random")  # half of its weights, too
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    masking.attach(optimizer)
    method = gs.RigL(masking, every=20, until=EPOCHS * 15 * 3 // 4)
    for _ in range(EPOCHS):
        for x in train[torch.randperm(len(train))].split(100):
            optimizer.zero_grad()
            reconstruction, code = model(x)
            (reconstruction - x).square().sum(1).mean().backward()
            optimizer.step()
            method.step()
            model.normalize()
    with torch.no_grad():
        reconstruction, code = model(test)
    active = float((code != 0).sum(1).float().mean())
    used = int((code != 0).any(0).sum())
    explained = gs.nn.explained_variance(test, reconstruction)
    print(f"{active:.1f} of {CODES} codes an image, {used} used at all: {explained:.1%} of the variance explained")
