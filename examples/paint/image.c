/* PNG files and what is computed of pictures. */
#include "image.h"

#include <errno.h>
#include <math.h>
#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void image_free(struct image *image)
{
    free(image->rgb);
    *image = (struct image){0};
}

/* Each pixel of `out` is the mean of those of `in` that it covers. */
static void shrink(const struct image *in, struct image *out)
{
    for (uint32_t y = 0; y < out->height; y++)
        for (uint32_t x = 0; x < out->width; x++) {
            const uint32_t x0 = (uint32_t)((uint64_t)x * in->width / out->width);
            const uint32_t x1 = (uint32_t)((uint64_t)(x + 1) * in->width / out->width);
            const uint32_t y0 = (uint32_t)((uint64_t)y * in->height / out->height);
            const uint32_t y1 = (uint32_t)((uint64_t)(y + 1) * in->height / out->height);
            const uint64_t count = (uint64_t)(x1 - x0) * (y1 - y0);
            for (uint32_t c = 0; c < 3; c++) {
                uint64_t sum = 0;
                for (uint32_t v = y0; v < y1; v++)
                    for (uint32_t u = x0; u < x1; u++)
                        sum += in->rgb[3 * ((size_t)v * in->width + u) + c];
                out->rgb[3 * ((size_t)y * out->width + x) + c] = (uint8_t)((sum + count / 2) / count);
            }
        }
}

bool image_read(const char *path, uint32_t size, struct image *out)
{
    png_image png = {.version = PNG_IMAGE_VERSION};
    struct image whole = {0};
    *out = (struct image){0};
    if (!png_image_begin_read_from_file(&png, path)) {
        fprintf(stderr, "paint: %s: %s\n", path, png.message);
        return false;
    }
    if (png.width > 16384 || png.height > 16384) {
        fprintf(stderr, "paint: %s: %ux%u pixels are too many, at most 16384x16384\n", path, (unsigned)png.width,
                (unsigned)png.height);
        png_image_free(&png);
        return false;
    }
    png.format = PNG_FORMAT_RGB;
    whole = (struct image){png.width, png.height, malloc(PNG_IMAGE_SIZE(png))};
    if (!whole.rgb) {
        fprintf(stderr, "paint: %s: no memory for it\n", path);
        png_image_free(&png);
        return false;
    }
    if (!png_image_finish_read(&png, &(png_color){0, 0, 0}, whole.rgb, 0, NULL)) {
        fprintf(stderr, "paint: %s: %s\n", path, png.message);
        image_free(&whole);
        return false;
    }
    const uint32_t side = whole.width > whole.height ? whole.width : whole.height;
    if (side <= size) {
        *out = whole;
        return true;
    }
    out->width = (uint32_t)((uint64_t)whole.width * size / side),
    out->height = (uint32_t)((uint64_t)whole.height * size / side);
    out->width += !out->width, out->height += !out->height;
    out->rgb = malloc((size_t)out->width * out->height * 3);
    if (out->rgb)
        shrink(&whole, out);
    else
        fprintf(stderr, "paint: %s: no memory for it\n", path);
    image_free(&whole);
    return out->rgb;
}

bool image_write(const char *path, const uint8_t *rgba, uint32_t width, uint32_t height)
{
    png_image png = {.version = PNG_IMAGE_VERSION, .width = width, .height = height, .format = PNG_FORMAT_RGBA};
    char temporary[4096];
    if (snprintf(temporary, sizeof temporary, "%s.tmp", path) >= (int)sizeof temporary) {
        fprintf(stderr, "paint: %s: the name is too long\n", path);
        return false;
    }
    if (!png_image_write_to_file(&png, temporary, 0, rgba, 0, NULL)) {
        fprintf(stderr, "paint: %s: %s\n", path, png.message);
        remove(temporary);
        return false;
    }
    if (rename(temporary, path)) {
        fprintf(stderr, "paint: %s: %s\n", path, strerror(errno));
        remove(temporary);
        return false;
    }
    return true;
}

double image_psnr(const struct image *image, const uint8_t *rgba, uint32_t pitch)
{
    double sum = 0;
    for (uint32_t y = 0; y < image->height; y++)
        for (uint32_t x = 0; x < image->width; x++)
            for (uint32_t c = 0; c < 3; c++) {
                const double d =
                    (double)rgba[4 * ((size_t)y * pitch + x) + c] - image->rgb[3 * ((size_t)y * image->width + x) + c];
                sum += d * d;
            }
    return 10 * log10(255.0 * 255.0 * image->width * image->height * 3 / (sum > 0 ? sum : 1));
}
