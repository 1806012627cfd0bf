"""Views of photographs of different sizes, from a DataLoader, and views that a key repeats."""

import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch.utils.data import DataLoader

import sslx

china, flower = (Image.fromarray(image) for image in load_sample_images().images)
dataset = [(china.crop((0, 0, 300, 200)), 0), (flower.crop((0, 0, 150, 250)), 1)] * 4  # as of ImageFolder

views = sslx.views("byol", size=64, count=2)
torch.manual_seed(0)  # repeats the views, like all that torch draws
for x, labels in DataLoader(dataset, batch_size=4, collate_fn=views.collate):
    print(tuple(x.shape), labels.tolist())  # (2, 4, 3, 64, 64): J views of N images

images = [image for image, _ in dataset]
positions = torch.arange(8)
first = views(images, key=(7, 0, positions))  # seed 7, epoch 0: a pure function, as in a run
again = torch.cat([views(images[i : i + 1], key=(7, 0, positions[i : i + 1])) for i in range(8)], dim=1)
print("equal one by one:", torch.equal(first, again))

crops = sslx.views("dino", size=64, local={"size": 32, "count": 4})(images)
print("multi-crop:", [tuple(x.shape) for x in crops])
