"""Patches of large images, for metrics of distributions."""


def patch_corners(height: int, width: int, size: int) -> list[tuple[int, int]]:
    """Corners of the patches that stand for an image in FID/256 (Mentzer et al., "High-Fidelity Generative Image
    Compression", 2020): a grid of whole patches from the image's corner, and a second one from half a patch further
    down and right.

    As in Muckley et al. (2023), the second grid takes all whole patches that fit; the formula that Mentzer et al.
    print gives fewer where a side leaves a remainder of half a patch or more.

    Args:
        height: of the image, in pixels.
        width: of the image, in pixels.
        size: side of the square patches.

    Returns:
        (top, left) of each patch; empty where the image is smaller than a patch.

    >>> patch_corners(4, 8, size=4)
    [(0, 0), (0, 4)]
    >>> len(patch_corners(512, 768, size=256))
    8
    """
    return [
        (top, left)
        for start in (0, size // 2)
        for top in range(start, height - size + 1, size)
        for left in range(start, width - size + 1, size)
    ]
