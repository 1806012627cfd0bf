import difflib
import math
from typing import Any

import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.functional import interpolate

from sslx.api import ConfigError, Context, Encoder, HasTokens, option, resized
from sslx.ssl_methods.networks.vit import cut, picked


class TimmEncoder(Encoder):
    """The pooled features of any timm model, `timm:NAME`; images may have any size that the model takes.

    A model for one size gets that of the views. Vision transformers interpolate their position embeddings for other
    sizes, and other such models scale the image.
    """

    model: str = option(help="Name in timm, such as resnet18 or vit_tiny_patch16_224.")
    pretrained: bool = option(default=False, help="Whether to start from timm's weights, which timm downloads.")
    patch_size: int = option(default=0, ge=0, help="Side of a vision transformer's patches in pixels; 0 is timm's.")
    drop_path_rate: float = option(
        default=0.0, ge=0, lt=1, help="Probability that an image skips the last block; less for blocks before it."
    )
    preprocess: bool = option(
        default=False, help="Whether images are prepared as timm does it for its weights: colour, size, crop and scale."
    )

    def __attrs_post_init__(self) -> None:
        if not timm.is_model(self.model):
            close = difflib.get_close_matches(self.model, timm.list_models(), n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise ConfigError(f"timm has no model {self.model!r}{hint}")

    def build(self, ctx: Context) -> Context:
        C, H, W = ctx.image_shape
        facts = timm.get_pretrained_cfg(self.model)
        if self.preprocess:
            if facts is None:
                raise ConfigError(f"encoder.preprocess: timm says nothing of the images of {self.model}")
            C, H, W = facts.input_size
            self.scaled = [math.floor(size / facts.crop_pct) for size in (H, W)]
            self.cropped, self.mode = (H, W), facts.interpolation
        options: dict[str, Any] = {"num_classes": 0, "in_chans": C, "pretrained": self.pretrained}
        options |= {name: getattr(self, name) for name in ("patch_size", "drop_path_rate") if getattr(self, name)}
        self.size: tuple[int, int] | None = None  # the only one that the model takes
        try:
            if facts is not None and facts.fixed_input_size:
                options["img_size"] = (H, W)
                self.network: nn.Module = self.transformer(options)
            else:
                self.network = timm.create_model(self.model, **options)
            with torch.no_grad():
                features = self.network.eval()(torch.zeros(1, C, H, W)).shape[1]
        except OSError as error:  # of a download, whose libraries have errors of their own below it
            problem = f"encoder.pretrained: no weights of timm:{self.model} on this computer, and none to download"
            raise ConfigError(f"{problem} ({type(error).__name__}); false begins with random ones") from error
        except (RuntimeError, AssertionError, ValueError, ZeroDivisionError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            advice = f"set views.size to the size of its images, such as {facts.input_size[-1]}, " if facts else ""
            problem = f"timm:{self.model} cannot be used for images of {H}x{W}: {reason}"
            raise ConfigError(f"encoder: {problem}; {advice}or choose another model") from error
        self.network.train()
        convolutions = sum(isinstance(part, nn.Conv2d) for part in self.network.modules())
        self.channels_last = convolutions > 1  # type: ignore[misc]  # a transformer has one, for its patches
        # Weights expect images as in their training.
        use = facts is not None and (self.preprocess or (self.pretrained and C == 3))
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
        return self.network(self.standardized(self.prepared(x)))

    def standardized(self, x: Tensor) -> Tensor:
        return (x - self.channel_mean) / self.channel_std

    def prepared(self, x: Tensor) -> Tensor:
        """Images of any size -> of a size that the network takes, and as timm prepares them if `preprocess` says so."""
        x = self.preprocessed(x) if self.preprocess else x
        return x if self.size is None else resized(x, self.size)

    def patches(self, x: Tensor) -> Tensor:
        network: Any = self.network
        return cut(self.prepared(x), network.patch_embed.patch_size)

    def tokens(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        network: Any = self.network
        extra = network.num_prefix_tokens
        h = network._pos_embed(network.patch_embed(self.standardized(self.prepared(x))))
        if keep is not None:
            h = torch.cat([h[:, :extra], picked(h[:, extra:], keep)], dim=1)
        return network.norm(network.blocks(network.norm_pre(h)))[:, extra:]

    def lacks(self) -> set[type]:
        return set() if isinstance(getattr(self, "network", None), VisionTransformer) else {HasTokens}

    def preprocessed(self, x: Tensor) -> Tensor:
        """Images of any size -> the middle of the scaled images, with as many channels as timm's weights expect."""
        x = x if len(self.channel_mean) == x.shape[1] else x.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
        mode = self.mode if self.mode in ("bilinear", "bicubic") else "bicubic"
        x = interpolate(x, self.scaled, mode=mode, antialias=True).clamp(0, 1)
        (H, W), (h, w) = self.scaled, self.cropped
        top, left = round((H - h) / 2), round((W - w) / 2)
        return x[:, :, top : top + h, left : left + w]

    def timm(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        facts = timm.get_pretrained_cfg(self.model)
        if facts is None or not isinstance(facts.classifier, str):
            raise ConfigError(f"timm model {self.model} has no single classifier layer; choose another model")
        known = {"classifier": facts.classifier, "fixed_input_size": facts.fixed_input_size}
        known |= {"mean": self.channel_mean.flatten().tolist(), "std": self.channel_std.flatten().tolist()}
        return {"architecture": self.model.partition(".")[0], "pretrained_cfg": known}, self.network.state_dict()
