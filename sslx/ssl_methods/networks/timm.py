import difflib
from typing import Any

import timm
import torch
from torch import Tensor, nn

from sslx.api import ConfigError, Context, Encoder, option, resized


class TimmEncoder(Encoder):
    """The pooled features of any timm model, `timm:NAME`; images may have any size that the model takes.

    A model for one size gets that of the views. Vision transformers interpolate their position embeddings for other
    sizes, and other such models scale the image.
    """

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
        self.size: tuple[int, int] | None = None  # the only one that the model takes
        try:
            if facts is not None and facts.fixed_input_size:
                options["img_size"] = (H, W)
                self.network: nn.Module = self.transformer(options)
            else:
                self.network = timm.create_model(self.model, **options)
            with torch.no_grad():
                features = self.network.eval()(torch.zeros(1, C, H, W)).shape[1]
        except (RuntimeError, AssertionError, ValueError, ZeroDivisionError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            advice = f"set views.size to the size of its images, such as {facts.input_size[-1]}, " if facts else ""
            problem = f"timm:{self.model} cannot be used for images of {H}x{W}: {reason}"
            raise ConfigError(f"encoder: {problem}; {advice}or choose another model") from error
        self.network.train()
        use = facts is not None and self.pretrained and C == 3  # weights expect images as in their training
        mean, std = (facts.mean, facts.std) if facts is not None and use else ((0.0,) * C, (1.0,) * C)
        self.channel_mean = nn.Buffer(torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.channel_std = nn.Buffer(torch.tensor(std).view(-1, 1, 1), persistent=False)
        return self.head(ctx, features)

    def transformer(self, options: dict[str, Any]) -> nn.Module:
        """A model for images of `img_size`, which takes other sizes as well if timm offers that."""
        try:
            return timm.create_model(self.model, **options, dynamic_img_size=True, dynamic_img_pad=True)
        except TypeError:  # timm does not
            self.size = options["img_size"]
            return timm.create_model(self.model, **options)

    def features(self, x: Tensor) -> Tensor:
        x = x if self.size is None else resized(x, self.size)
        return self.network((x - self.channel_mean) / self.channel_std)

    def timm(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        facts = timm.get_pretrained_cfg(self.model)
        if facts is None or not isinstance(facts.classifier, str):
            raise ConfigError(f"timm model {self.model} has no single classifier layer; choose another model")
        known = {"classifier": facts.classifier, "fixed_input_size": facts.fixed_input_size}
        known |= {"mean": self.channel_mean.flatten().tolist(), "std": self.channel_std.flatten().tolist()}
        return {"architecture": self.model.partition(".")[0], "pretrained_cfg": known}, self.network.state_dict()
