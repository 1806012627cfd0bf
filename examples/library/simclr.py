"""SimCLR in a plain PyTorch loop: views and the objective are those of sslx, all else is yours."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import sslx

torch.manual_seed(0)
digits = load_digits()
images = torch.tensor(digits.images / 16, dtype=torch.float32)[:, None]  # (1797, 1, 8, 8), floats in [0, 1]
dataset = TensorDataset(images, torch.tensor(digits.target))

views = sslx.views("standard", crop=(0.4, 1.0), brightness=0.4, count=2)
loader = DataLoader(dataset, batch_size=256, shuffle=True, drop_last=True, collate_fn=views.collate)

encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64))
head = nn.Sequential(nn.ReLU(), nn.Linear(64, 32))
info_nce = sslx.make("objective", "info-nce", temperature=0.2)
optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=3e-3)

for epoch in range(6):
    total = 0.0
    for (x1, x2), _ in loader:
        loss = info_nce(head(encoder(x1)), head(encoder(x2)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    print(f"epoch {epoch}: loss {total / len(loader):.3f}")
