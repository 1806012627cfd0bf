"""A method as a transformer of scikit-learn: an array of images in, their representations out."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_array, check_is_fitted, validate_data
from torch import Tensor
from typing_extensions import Self

from sslx.core.capabilities import Decodes, can
from sslx.core.data import Split, in_bytes
from sslx.core.errors import ConfigError, NonFiniteError
from sslx.core.interfaces import Dataset, Method
from sslx.core.options import to_dict
from sslx.core.training.config import configure, layer
from sslx.core.training.evaluation import features
from sslx.core.training.run import Launch
from sslx.plugins.registry import registry
from sslx.runs import session


class Images(Dataset):
    """Images that are already in memory. All are used for training; there is no test set."""

    defaults = {"views": {"crop": (0.4, 1.0), "hflip": 0.5}}

    @classmethod
    def of(cls, images: Tensor) -> Images:
        dataset = cls()
        dataset.__dict__["images"] = images  # no option: it is not written to a config
        return dataset

    def load(self, folder: Path, offline: bool) -> tuple[Split, Split]:
        images = self.__dict__["images"]
        return Split(images), Split(images[:1])


class Points(Images):
    """Points of any scale, whose views are the points with noise."""

    defaults = {
        "views": {"use": "noise"},
        "method": {"decoder": {"use": "mlp", "likelihood": {"mean": "linear"}}},
    }


def _decodes(self: Representation) -> bool:
    """Whether there is `inverse_transform`. An AttributeError with its reason says why not."""
    method: Any = registry().resolve("method", self.method).cls if isinstance(self.method, str) else self.method
    if hasattr(method, "decode"):
        return True
    raise AttributeError(f"{self.method} has no decoder, so Representation has no inverse_transform")


class Representation(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Representations of images, learned without labels by any method of sslx.

        Representation("simvae", train__epochs=20, prior__variance=0.2).fit(X).transform(X)  # (n, D) float32

    X is a batch of images, (n, C, H, W) or (n, H, W), as uint8 or as floats in [0, 1], which are rounded to the 256
    levels of uint8. An array (n, F) holds points, as any floats. They are images with F channels and one pixel: use a
    network that accepts these, such as `mlp`. Their views are the points with noise.

    Args:
        method: a method's name, as in `sslx run --plugin`, its class, or an object.
        seed: seed of everything that is random; the same seed, data and options give the same representation.
        device: "cpu" or "cuda"; "auto" is cuda where there is one.
        verbose: whether progress is shown on standard error.
        options: options of the method, and of the sections `train`, `views` and `loader`, as in `sslx run --set` with
            two underscores for each dot. They are parameters, for `get_params`, clones and grid searches.

    Attributes:
        method_: the trained method, a torch.nn.Module in evaluation mode.
        config_: the complete config, as in config.toml of a run.
        image_shape_: (C, H, W).
    """

    def __init__(
        self,
        method: str | type[Method] | Method = "simvae",
        *,
        seed: int = 0,
        device: str = "auto",
        verbose: bool = False,
        **options: Any,
    ) -> None:
        self.method = method
        self.seed = seed
        self.device = device
        self.verbose = verbose
        self.options = options

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return {**super().get_params(deep), **self.options}

    def set_params(self, **params: Any) -> Self:
        own = self._get_param_names()
        for name, value in params.items():
            if name in own:
                setattr(self, name, value)
            else:
                self.options = {**self.options, name: value}
        return self

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on images. `y` is ignored.

        Raises ConfigError, which is a ValueError, with one line for each option that is wrong.
        """
        images = self._images(X, fit=True)
        dataset = (Points if images.is_floating_point() else Images).of(images)
        options = layer({name.replace("__", "."): value for name, value in self.options.items()})
        method = {"use": self.method} if isinstance(self.method, str | type) else self.method
        config = configure({"method": method, "dataset": dataset, "seed": self.seed}, options, evaluators={})
        with tempfile.TemporaryDirectory(prefix="sslx-") as folder:
            launch = Launch(self.device, progress=self.verbose)
            try:
                run = session.start(config, launch, Path(folder, "run"))
            except NonFiniteError as error:  # its advice needs a folder that is gone
                raise NonFiniteError(str(error).partition(";")[0]) from error
            self.method_ = run.method()
        self.config_ = to_dict(config)
        self._n_features_out = self._represent(images[:1]).shape[1]
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Images as in `fit` -> their representations, (n, D)."""
        check_is_fitted(self)
        return self._represent(self._images(X, fit=False))

    @available_if(_decodes)  # type: ignore[untyped-decorator]
    @torch.no_grad()
    def inverse_transform(self, Z: Any) -> NDArray[np.float32]:
        """Latents (n, D) -> their images, floats in the shape that `fit` was given. Only of methods with a decoder."""
        check_is_fitted(self)
        z = torch.from_numpy(check_array(Z, dtype=np.float32))
        if z.shape[1] != self._n_features_out:
            raise ConfigError(f"Z: expected latents of {self._n_features_out} dimensions, got {z.shape[1]}")
        assert can(self.method_, Decodes), "scikit-learn asks _decodes"
        images: NDArray[np.float32] = self.method_.decode(z).numpy()
        return images.reshape(len(z), *self._shape_in)

    def _represent(self, images: Tensor) -> NDArray[np.float32]:
        return features(self.method_, Split(images), torch.device("cpu")).z.numpy()

    def _images(self, X: Any, fit: bool) -> Tensor:
        """(n, C, H, W) images, or points of type float32. Raises ValueError."""
        array = check_array(X, allow_nd=True, ensure_min_samples=2 if fit else 1, estimator=self)
        if array.ndim == 2:  # scikit-learn counts columns, of images there are none
            validate_data(self, X, reset=fit, skip_check_array=True)
        if array.ndim == 4 and array.shape[1] not in (1, 3) and array.shape[3] in (1, 3):
            raise ConfigError(f"X: expected images as (n, C, H, W), got {array.shape}; X.transpose(0, 3, 1, 2) is that")
        if array.ndim > 4:
            raise ConfigError(f"X: expected images as (n, C, H, W) or (n, H, W), got {array.shape}")
        if fit:
            self._shape_in = array.shape[1:]
        elif array.shape[1:] != self._shape_in:
            raise ConfigError(f"X: expected images of shape {self._shape_in}, as those of fit, got {array.shape[1:]}")
        values = torch.from_numpy(np.require(array, requirements=("C", "W")))  # torch does not take what is only read
        if array.ndim == 2:
            shape, images = (array.shape[1], 1, 1), values.float()
        else:
            shape, images = array.shape[-3:] if array.ndim == 4 else (1, *array.shape[1:]), in_bytes(values, "X")
        if fit:
            self.image_shape_: tuple[int, ...] = shape
        return images.reshape(-1, *shape)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
