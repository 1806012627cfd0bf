"""Trained networks from files: an export of sslx, and a checkpoint that another program wrote."""

import timm
import torch
from safetensors.torch import save_file

import sslx

sslx.run("simclr", dataset="digits", train={"epochs": 1}, evaluators=["knn"], out="simclr-run")
images = torch.rand(4, 1, 8, 8)
mine = sslx.load("simclr-run/export/model.safetensors")  # every run exports its encoder; so does `sslx export`
print("equal:", torch.equal(mine(images), sslx.open_run("simclr-run").encoder("features")(images)))

theirs = timm.create_model("resnet10t", num_classes=0).eval()
save_file(theirs.state_dict(), "theirs.safetensors")
network = sslx.load("theirs.safetensors", "timm:resnet10t", image_shape=(3, 64, 64))
photos = torch.rand(2, 3, 64, 64)
print("equal:", torch.allclose(network(photos), theirs(photos), atol=1e-5))

try:
    sslx.load("theirs.safetensors", "resnet18", image_shape=(3, 64, 64))
except ValueError as error:  # sslx's ConfigError
    print(error)
