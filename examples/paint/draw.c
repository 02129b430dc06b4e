/* The picture that is learnt when no file is given. x and y go from 0 to 1, y downwards. */
#include "image.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct colour {
    float r, g, b;
};

static struct colour mix(struct colour a, struct colour b, float t)
{
    t = t < 0 ? 0 : t > 1 ? 1 : t;
    return (struct colour){a.r + t * (b.r - a.r), a.g + t * (b.g - a.g), a.b + t * (b.b - a.b)};
}

static const float sun_x = 0.66f, sun_y = 0.27f, shore = 0.64f;

static float far_ridge(float x)
{
    return 0.47f - 0.13f * fabsf(sinf(5.2f * x + 0.9f)) - 0.05f * fabsf(sinf(13.0f * x)) + 0.012f * sinf(61.0f * x);
}

static float hill(float x)
{
    return 0.585f - 0.06f * sinf(4.4f * x + 3.6f) - 0.02f * sinf(11.0f * x);
}

static float meadow(float x)
{
    return 0.79f + 0.05f * sinf(3.4f * x + 1.9f) + 0.03f * x;
}

static struct colour sky(float x, float y)
{
    const float sun = hypotf(x - sun_x, y - sun_y);
    struct colour c = mix((struct colour){0.13f, 0.29f, 0.60f}, (struct colour){0.98f, 0.80f, 0.60f}, y / 0.55f);
    c = mix(c, (struct colour){1, 0.90f, 0.62f}, 0.8f * expf(-sun * 7));
    if (y < 0.24f) { /* two clouds, flat below */
        const float a = hypotf((x - 0.22f) / 2.6f, y - 0.17f), b = hypotf((x - 0.33f) / 2.2f, y - 0.145f);
        if ((a < 0.045f || b < 0.05f) && y < 0.185f)
            c = mix((struct colour){0.80f, 0.82f, 0.90f}, (struct colour){1, 0.98f, 0.96f}, (0.185f - y) / 0.07f);
    }
    return sun < 0.085f ? (struct colour){1, 0.93f, 0.55f} : c;
}

static struct colour land(float x, float y)
{
    const float ridge = far_ridge(x);
    if (y > hill(x))
        return mix((struct colour){0.33f, 0.52f, 0.27f}, (struct colour){0.15f, 0.33f, 0.22f},
                   (y - hill(x)) * 9 + 0.15f * sinf(90 * x));
    if (y > ridge) {
        if (y < ridge + 0.7f * (0.40f - ridge) + 0.012f * sinf(70 * x)) /* the higher, the more snow */
            return (struct colour){0.95f, 0.96f, 1};
        return mix((struct colour){0.36f, 0.34f, 0.52f}, (struct colour){0.60f, 0.53f, 0.62f}, (y - ridge) * 5);
    }
    return sky(x, y);
}

/* The land upside down, darker, with ripples that grow towards the eye. */
static struct colour water(float x, float y)
{
    const float depth = y - shore, ripple = sinf(5.5f / (depth + 0.035f) + 3 * sinf(7 * x));
    struct colour c = land(x + 0.012f * ripple, shore - 1.5f * depth);
    c = mix(c, (struct colour){0.10f, 0.28f, 0.45f}, 0.45f + 0.12f * ripple);
    if (fabsf(x - sun_x) < 0.02f + 0.25f * depth && ripple > 0.35f)
        c = mix(c, (struct colour){1, 0.88f, 0.55f}, 0.75f);
    return c;
}

static bool house(float x, float y, struct colour *c)
{
    const float left = 0.14f, right = 0.36f, eaves = 0.62f, floor = 0.81f, middle = 0.25f;
    const float roof = eaves - 0.12f * (1 - fabsf(x - middle) / 0.14f);
    if (x > 0.30f && x < 0.335f && y > 0.50f && y < roof + 0.02f)
        *c = (struct colour){0.45f, 0.20f, 0.17f};
    else if (y > roof && y < eaves && fabsf(x - middle) < 0.14f)
        *c = fmodf(y - roof + 1, 0.04f) < 0.012f ? (struct colour){0.46f, 0.11f, 0.10f}
                                                 : (struct colour){0.72f, 0.20f, 0.15f};
    else if (x < left || x > right || y < eaves || y > floor)
        return false;
    else if (x > 0.275f && x < 0.325f && y > 0.69f)
        *c = (struct colour){0.32f, 0.20f, 0.12f};
    else if (x > 0.17f && x < 0.24f && y > 0.66f && y < 0.73f)
        *c = fabsf(x - 0.205f) < 0.006f || fabsf(y - 0.695f) < 0.006f ? (struct colour){0.35f, 0.22f, 0.14f}
                                                                      : (struct colour){1, 0.86f, 0.40f};
    else
        *c = mix((struct colour){0.97f, 0.93f, 0.84f}, (struct colour){0.80f, 0.72f, 0.64f},
                 (y - eaves) / (floor - eaves));
    return true;
}

static bool tree(float x, float y, struct colour *c)
{
    const float crown = hypotf(x - 0.86f, (y - 0.60f) * 0.8f) + 0.010f * sinf(9 * atan2f(y - 0.60f, x - 0.86f));
    if (crown < 0.10f)
        *c = mix((struct colour){0.36f, 0.56f, 0.16f}, (struct colour){0.06f, 0.25f, 0.12f},
                 0.5f + 3.5f * (x - 0.86f) + 2.5f * (y - 0.60f));
    else if (fabsf(x - 0.86f) < 0.016f + 0.3f * fmaxf(0, y - 0.80f) && y > 0.60f && y < 0.85f)
        *c = (struct colour){0.30f, 0.19f, 0.11f};
    else
        return false;
    return true;
}

static struct colour grass(float x, float y)
{
    const float top = meadow(x), path = 0.30f + 0.9f * (y - 0.80f) * (y - 0.80f) * 6,
                width = 0.02f + 0.35f * (y - 0.80f);
    if (y > 0.80f && fabsf(x - path) < width)
        return mix((struct colour){0.87f, 0.76f, 0.55f}, (struct colour){0.70f, 0.56f, 0.36f}, (y - 0.80f) * 5);
    const float u = x * 17 + 0.5f * floorf(y * 26), v = y * 26;
    const float dot = hypotf(u - floorf(u) - 0.5f, v - floorf(v) - 0.5f);
    if (dot < 0.17f && y > top + 0.03f && ((int)floorf(u) * 7 + (int)floorf(v) * 3) % 4 == 0)
        return (struct colour){0.98f, 0.55f, 0.60f};
    return mix((struct colour){0.55f, 0.72f, 0.25f}, (struct colour){0.20f, 0.44f, 0.16f}, (y - top) * 4.5f);
}

static struct colour scene(float x, float y)
{
    struct colour c;
    if (house(x, y, &c) || tree(x, y, &c))
        return c;
    if (y > meadow(x))
        return grass(x, y);
    return y > shore ? water(x, y) : land(x, y);
}

bool image_draw(uint32_t size, struct image *out)
{
    enum { SAMPLES = 3 }; /* per side of a pixel: softens edges by less than a pixel */
    *out = (struct image){size, size, malloc((size_t)size * size * 3)};
    if (!out->rgb)
        return fprintf(stderr, "paint: no memory for the picture\n"), false;
    for (uint32_t i = 0; i < size * size; i++) {
        float sum[3] = {0};
        for (int s = 0; s < SAMPLES * SAMPLES; s++) {
            const float x = ((float)(i % size) + ((float)(s % SAMPLES) + 0.5f) / SAMPLES) / (float)size;
            const float y = ((float)(i / size) + ((float)(s / SAMPLES) + 0.5f) / SAMPLES) / (float)size;
            const struct colour c = scene(x, y);
            sum[0] += c.r, sum[1] += c.g, sum[2] += c.b;
        }
        for (int c = 0; c < 3; c++)
            out->rgb[3 * i + (uint32_t)c] = (uint8_t)(255 * fminf(sum[c] / (SAMPLES * SAMPLES), 1) + 0.5f);
    }
    return true;
}
