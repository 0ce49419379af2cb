"""What critics of pictures read of a codec: how many classes its label maps have."""

from lightning_modules.codecs.conditional_codec import ConditionalCodec
from lightning_modules.errors import SettingError


def label_classes(codec: ConditionalCodec) -> int:
    """Classes K of a codec whose decoders read x_hat (3 channels) and a one-hot label map (K channels).

    Returns:
        K; 0 for a codec without side information.

    Raises:
        SettingError: It is a codec of another kind.
    """
    classes = getattr(codec, "classes", None)
    if not isinstance(classes, int):
        raise SettingError(
            f"codec {type(codec).__name__} has no `classes`: this critic reads x_hat and a label map, which "
            "codecs of street scenes give; set model.critic to "
            "lightning_modules.critics.wasserstein.WassersteinCritic, or choose another model.codec"
        )
    return classes
