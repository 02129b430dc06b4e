/* Pictures of 8-bit RGB: the one that the program draws itself, PNG files, and the distance between two. */
#ifndef PAINT_IMAGE_H
#define PAINT_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

struct image {
    uint32_t width, height;
    uint8_t *rgb;              /* [height, width, 3] */
};

/* A landscape: gradients, curves, ripples and sharp edges. false: a line on stderr says why. */
bool image_draw(uint32_t size, struct image *out);
/* A PNG, made smaller so that neither side is above `size`. false: a line on stderr says why. */
bool image_read(const char *path, uint32_t size, struct image *out);
void image_free(struct image *image);

/* Writes rgba [height, width, 4] to a file beside `path` and renames it. false: a line on stderr says why. */
bool image_write(const char *path, const uint8_t *rgba, uint32_t width, uint32_t height);

/* Peak signal-to-noise ratio over RGB, in dB, of the left image->width columns of rgba [height, pitch, 4]. */
double image_psnr(const struct image *image, const uint8_t *rgba, uint32_t pitch);

#endif
