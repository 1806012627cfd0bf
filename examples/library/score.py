"""Scores of features and of a network by the evaluators of runs, with the protocol that they follow."""

import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from torch import nn

import sslx

digits = load_digits()
images = torch.tensor(digits.images * 255 / 16).round().to(torch.uint8)[:, None]  # (1797, 1, 8, 8)
train, test = slice(0, 1200), slice(1200, None)
labels = digits.target

pca = PCA(16).fit(digits.data[train])
z = pca.transform(digits.data)
results = sslx.score(z[train], labels[train], z[test], labels[test])
for name, result in results.items():
    print(name, result["scores"], result["summary"], sep="\n  ")

torch.manual_seed(0)
network = nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.AdaptiveMaxPool2d(2), nn.Flatten())
data = (images[train], labels[train], images[test], labels[test])
results = sslx.score(*data, model=network, evaluators="knn,geometry", views=sslx.views(crop=(0.4, 1.0)))
print(results["geometry"]["scores"])

data = (z[train], labels[train], z[test], labels[test])
results = sslx.score(*data, evaluators={"knn": {"cosine_neighbours": [10, 20]}})
print(results["knn"]["scores"]["knn-20-cosine"], results["knn"]["protocol"]["cosine_vote"])
