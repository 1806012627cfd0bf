import difflib
from typing import Any

import timm
import torch
from torch import Tensor, nn

from sslx.api import ConfigError, Context, Encoder, option


class TimmEncoder(Encoder):
    """The pooled features of any timm model, `timm:NAME`; images may have any size that the model takes."""

    model: str = option(help="Name in timm, such as resnet18 or vit_tiny_patch16_224.")
    pretrained: bool = option(default=False, help="Whether to start from timm's weights, which timm downloads.")

    def __attrs_post_init__(self) -> None:
        if not timm.is_model(self.model):
            close = difflib.get_close_matches(self.model, timm.list_models(), n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise ConfigError(f"timm has no model {self.model!r}{hint}")

    def build(self, ctx: Context) -> Context:
        C, H, W = ctx.image_shape
        options: dict[str, Any] = {"num_classes": 0, "in_chans": C, "pretrained": self.pretrained}
        facts = timm.get_pretrained_cfg(self.model)
        if facts is not None and facts.fixed_input_size:
            options["img_size"] = (H, W)
        self.network: nn.Module = timm.create_model(self.model, **options)
        with torch.no_grad():
            features = self.network.eval()(torch.zeros(1, C, H, W)).shape[1]
        self.network.train()
        use = facts is not None and self.pretrained and C == 3  # weights expect images as in their training
        mean, std = (facts.mean, facts.std) if facts is not None and use else ((0.0,) * C, (1.0,) * C)
        self.channel_mean = nn.Buffer(torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.channel_std = nn.Buffer(torch.tensor(std).view(-1, 1, 1), persistent=False)
        return self.head(ctx, features)

    def features(self, x: Tensor) -> Tensor:
        return self.network((x - self.channel_mean) / self.channel_std)

    def timm(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        facts = timm.get_pretrained_cfg(self.model)
        if facts is None or not isinstance(facts.classifier, str):
            raise ConfigError(f"timm model {self.model} has no single classifier layer; choose another model")
        known = {"classifier": facts.classifier, "fixed_input_size": facts.fixed_input_size}
        known |= {"mean": self.channel_mean.flatten().tolist(), "std": self.channel_std.flatten().tolist()}
        return {"architecture": self.model.partition(".")[0], "pretrained_cfg": known}, self.network.state_dict()
