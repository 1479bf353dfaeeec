"""Train a perceptron on scikit-learn's digits with a twentieth of its weights: static, moving, gradually pruned.

    pip install "gossamer[vision]"
    python core/examples/sparse_training.py

It printed

    dense     0% sparse: 97.8 ± 0.4 % right
    static   95% sparse: 92.8 ± 2.1 % right
    SET      95% sparse: 95.1 ± 1.1 % right
    RigL     95% sparse: 94.9 ± 1.3 % right
    GMP      95% sparse: 97.1 ± 0.5 % right
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

import gossamer as gs

EPOCHS, BATCH, SPARSITY = 20, 50, 0.95
METHODS = {
    "dense": (0.0, None),
    "static": (SPARSITY, None),
    "SET": (SPARSITY, lambda masking, until: gs.SET(masking, every=15, until=until)),
    "RigL": (SPARSITY, lambda masking, until: gs.RigL(masking, every=15, until=until)),
    "GMP": (0.0, lambda masking, until: gs.GMP(masking, SPARSITY, every=15, until=until)),
}

digits, classes = load_digits(return_X_y=True)
images, labels = torch.tensor(digits, dtype=torch.float32) / 16, torch.tensor(classes)
train, test = torch.randperm(len(images), generator=torch.Generator().manual_seed(0)).split([1500, 297])


def accuracy(sparsity: float, make_method, seed: int) -> tuple[float, float]:
    """Train one network; its test accuracy in percent and its sparsity."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10))
    masking = gs.sparsify(model, sparsity, distribution="erk", score="random")
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    masking.attach(optimizer)
    method = make_method and make_method(masking, EPOCHS * len(train) // BATCH * 3 // 4)
    for _ in range(EPOCHS):
        for batch in train[torch.randperm(len(train))].split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
            if method:
                method.step()
    with torch.no_grad():
        return 100 * float((model(images[test]).argmax(1) == labels[test]).float().mean()), masking.sparsity


for name, (sparsity, make_method) in METHODS.items():
    runs = [accuracy(sparsity, make_method, seed) for seed in (1, 2, 3)]
    found = torch.tensor([run[0] for run in runs])
    print(f"{name:7} {runs[0][1]:4.0%} sparse: {found.mean():.1f} ± {found.std():.1f} % right")
