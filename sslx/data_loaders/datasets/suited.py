"""Settings of a run that suit the size and the number of images, where nothing better is known about them."""

from typing import Any

_SEEN = 1_000_000  # images that training sees in all epochs together
_EPOCHS = (20, 200)  # the fewest and the most, however many or few images there are
_BATCH = 64
_SMALL, _MEDIUM = 96, 128  # largest sizes of a small network, and of a ResNet without pooling in its stem
_COLOUR = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "jitter": 0.8, "grey": 0.2}


def suited(
    size: int = 32, channels: int = 3, images: int = 50_000, mirror: bool = True, labelled: bool = True
) -> dict[str, Any]:
    """Views, encoder, training and evaluators for so many training images of `size` pixels in height and width.

    They do not depend on the machine. A few thousand small images are learned in minutes on one core; large images need
    a GPU with any network, so theirs is a ResNet.

    Args:
        mirror: whether a mirrored image has the same meaning, as in a photograph and unlike a digit.
        labelled: whether the training images have labels, which the usual evaluators need.
    """
    is_photograph = channels == 3 and mirror
    crop, colour = (0.2 if is_photograph else 0.4, 1.0), _COLOUR if channels == 3 else {}
    epochs = min(max(_SEEN // max(images, 1), _EPOCHS[0]), _EPOCHS[1])
    encoder: dict[str, Any] = {"use": "cnn", "dim": 0}  # for methods whose features are evaluated
    if size > _SMALL:
        encoder = {"use": "resnet18", "dim": 0, "stem": "medium" if size <= _MEDIUM else "imagenet"}
    return {
        "train": {"epochs": epochs, "batch_size": min(_BATCH, max(2, images // 4))},
        "views": {"crop": crop, **({"hflip": 0.5} if mirror else {}), **colour},
        "method": {"encoder": encoder},
        **({} if labelled else {"evaluators": ["geometry"]}),
    }
