"""The network of a run as a plain module, which is trained further with labels."""

import torch
from sklearn.datasets import load_digits
from torch import nn

import sslx

run = sslx.run("simclr", dataset="digits", train={"epochs": 2}, evaluators=["knn"], out="trained")
encoder = run.encoder()  # images -> features; run.encoder("latent") and run.encoder("embedding") are others
weights = encoder.state_dict()  # plain tensors, for torch.save or safetensors

digits = load_digits()
images, labels = torch.tensor(digits.images / 16, dtype=torch.float32)[:, None], torch.tensor(digits.target)
features = encoder(images)
print("features:", tuple(features.shape))

torch.manual_seed(0)
classifier = nn.Sequential(encoder, nn.Linear(features.shape[1], 10)).train()
optimizer = torch.optim.Adam(classifier.parameters(), lr=1e-3)
for _ in range(5):
    for batch in torch.randperm(1200).split(100):
        loss = nn.functional.cross_entropy(classifier(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
accuracy = (classifier.eval()(images[1200:]).argmax(dim=1) == labels[1200:]).float().mean()
print(f"accuracy: {accuracy:.3f}")
