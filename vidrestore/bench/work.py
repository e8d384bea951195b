"""How much arithmetic a GPEN is, from its shapes alone."""

from vidrestore.models.gpen import BLUR_TAPS, GpenConfig

BLUR_AREA = len(BLUR_TAPS) ** 2


def gpen_flop(config: GpenConfig) -> int:
    """Floating-point operations of one face: two for each multiplication of convolutions, filters and linear layers.

    As the layers are written down, whatever an engine makes of them: Winograd's algorithm, for one, gets by with less.
    """
    sizes_px = config.resolutions_px
    products = 3 * config.channels(config.size_px) * config.size_px**2  # from RGB
    for size_px in sizes_px[:-1]:  # down to it: blur, convolution
        finer, channels = config.channels(2 * size_px), config.channels(size_px)
        products += BLUR_AREA * finer * (2 * size_px + 1) ** 2
        products += 9 * finer * channels * size_px**2

    coarsest = config.channels(4)
    products += 16 * coarsest * config.style_dim + config.num_mapping_layers * config.style_dim**2
    products += 9 * coarsest**2 * 4**2
    products += 2 * coarsest * 3 * 4**2
    for size_px in sizes_px[1:]:  # up to it: transposed convolution and blur, convolution, to RGB, the coarser image
        coarser, channels, from_px = config.channels(size_px // 2), config.channels(size_px), size_px // 2
        products += 9 * 2 * coarser * channels * from_px**2 + BLUR_AREA * channels * size_px**2
        products += 9 * 2 * channels * channels * size_px**2
        products += 2 * channels * 3 * size_px**2 + BLUR_AREA * 3 * from_px**2
    return 2 * products
