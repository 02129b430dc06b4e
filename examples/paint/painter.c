#include "painter.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "compose.h"
#include "encode.h"
#include "sample.h"

/* vkmoe works between compute shaders that read and write storage buffers. */
static const struct vkmoe_vulkan_scope shaders = {
    VK_PIPELINE_STAGE_2_COMPUTE_SHADER_BIT, VK_ACCESS_2_SHADER_STORAGE_READ_BIT | VK_ACCESS_2_SHADER_STORAGE_WRITE_BIT};

static struct vkmoe_vulkan_array array(const struct buffer *buffer)
{
    return (struct vkmoe_vulkan_array){.address = buffer->address, .bytes = buffer->bytes};
}

static uint32_t pixels(const struct painter *painter)
{
    return painter->width * painter->height;
}

static bool create_buffers(struct painter *p)
{
    const uint64_t count = pixels(p), batch = p->options->batch;
    return gpu_buffer(p->gpu, count * p->inputs * 4, false, &p->features) &&
           gpu_buffer(p->gpu, count * 4, false, &p->picture) &&
           gpu_buffer(p->gpu, batch * p->inputs * 4, false, &p->rows) &&
           gpu_buffer(p->gpu, batch * 3 * 4, false, &p->targets) &&
           gpu_buffer(p->gpu, count * 3 * 4, false, &p->colours) &&
           gpu_buffer(p->gpu, p->options->layers * count * p->options->top_k * 4, false, &p->experts) &&
           gpu_buffer(p->gpu, count * 2 * 4, false, &p->frame) && gpu_buffer(p->gpu, count * 2 * 4, true, &p->staging);
}

static bool create_pipelines(struct painter *p)
{
    return (p->encode = gpu_pipeline(p->gpu, encode_spv, sizeof encode_spv)) &&
           (p->sample = gpu_pipeline(p->gpu, sample_spv, sizeof sample_spv)) &&
           (p->compose = gpu_pipeline(p->gpu, compose_spv, sizeof compose_spv));
}

/* The picture goes to the device, and the features of all pixels are computed there. */
static bool upload(struct painter *p, const struct image *image)
{
    const struct {
        VkDeviceAddress features;
        uint32_t width, height, octaves;
    } push = {p->features.address, p->width, p->height, (uint32_t)p->options->octaves};
    uint8_t *to = p->staging.host;
    for (uint32_t i = 0; i < pixels(p); i++, to += 4) {
        memcpy(to, image->rgb + (size_t)3 * i, 3);
        to[3] = 255;
    }
    if (!gpu_begin(p->gpu))
        return false;
    vkCmdCopyBuffer(p->gpu->commands, p->staging.buffer, p->picture.buffer, 1,
                    &(VkBufferCopy){.size = p->picture.bytes});
    gpu_dispatch(p->gpu, p->encode, &push, sizeof push, pixels(p));
    gpu_barrier(p->gpu, VK_PIPELINE_STAGE_2_ALL_TRANSFER_BIT | VK_PIPELINE_STAGE_2_COMPUTE_SHADER_BIT,
                VK_ACCESS_2_TRANSFER_WRITE_BIT | VK_ACCESS_2_SHADER_STORAGE_WRITE_BIT,
                VK_PIPELINE_STAGE_2_COMPUTE_SHADER_BIT, VK_ACCESS_2_SHADER_STORAGE_READ_BIT);
    return gpu_submit(p->gpu, VK_NULL_HANDLE, VK_NULL_HANDLE) && gpu_wait(p->gpu);
}

bool painter_create(struct painter *p, struct gpu *gpu, const struct options *options, const struct image *image)
{
    *p = (struct painter){.gpu = gpu,
                          .options = options,
                          .width = image->width,
                          .height = image->height,
                          .inputs = 2 + 4 * (uint32_t)options->octaves};
    return create_buffers(p) && create_pipelines(p) && upload(p, image) && painter_restart(p, options->balance);
}

void painter_destroy(struct painter *p)
{
    struct buffer *const buffers[] = {&p->features, &p->picture, &p->rows,  &p->targets,
                                      &p->colours,  &p->experts, &p->frame, &p->staging};
    if (!p->gpu)
        return;
    vkmoe_stack_destroy(p->stack);
    vkDestroyPipeline(p->gpu->device, p->encode, NULL);
    vkDestroyPipeline(p->gpu->device, p->sample, NULL);
    vkDestroyPipeline(p->gpu->device, p->compose, NULL);
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        gpu_buffer_free(p->gpu, buffers[i]);
}

bool painter_restart(struct painter *p, struct vkmoe_balance balance)
{
    const struct options *o = p->options;
    const struct vkmoe_stack_config config = {.d_in = p->inputs,
                                              .d_out = 3,
                                              .d_model = (uint32_t)o->width,
                                              .layers = (uint32_t)o->layers,
                                              .experts = (uint32_t)o->experts,
                                              .top_k = (uint32_t)o->top_k,
                                              .d_expert = (uint32_t)o->hidden,
                                              .batch = (uint32_t)o->batch,
                                              .rows = pixels(p) < 16384 ? pixels(p) : 16384,
                                              .seed = o->seed,
                                              .balance = balance,
                                              .no_balance =
                                                  !(balance.simbal > 0 || balance.lbl > 0 || balance.lossfree > 0),
                                              .lr = (float)o->lr};
    vkmoe_stack_destroy(p->stack);
    p->step = 0;
    return !vkmoe_stack_create(p->gpu->ctx, &config, &p->stack);
}

/* The host draws the rows of a step, and vkmoe takes the step. */
static bool record_step(struct painter *p)
{
    const struct vkmoe_vulkan_record where = {p->gpu->commands, shaders, shaders};
    const struct vkmoe_vulkan_array rows = array(&p->rows), targets = array(&p->targets);
    const struct {
        VkDeviceAddress features, picture, rows, targets;
        uint32_t pixels, inputs, batch, seed, step;
    } push = {p->features.address,
              p->picture.address,
              p->rows.address,
              p->targets.address,
              pixels(p),
              p->inputs,
              (uint32_t)p->options->batch,
              (uint32_t)p->options->seed,
              p->step};
    const double falling = fmax(exp2(-(double)p->step / p->options->half), 0.02);
    if (vkmoe_stack_set_lr(p->stack, (float)(p->options->lr * falling)))
        return false;
    gpu_dispatch(p->gpu, p->sample, &push, sizeof push, push.batch * p->inputs);
    p->step++;
    return !vkmoe_vulkan_record_step(p->stack, &where, &rows, &targets);
}

static bool record_forward(struct painter *p)
{
    const struct vkmoe_vulkan_record where = {p->gpu->commands, shaders, shaders};
    const struct vkmoe_vulkan_forward forward = {
        .rows = pixels(p), .in = array(&p->features), .out = array(&p->colours), .experts = array(&p->experts)};
    return !vkmoe_vulkan_record_forward(p->stack, &where, &forward);
}

bool painter_record(struct painter *p, uint32_t steps)
{
    const VkDeviceSize layer = (VkDeviceSize)pixels(p) * p->options->top_k * 4;
    const struct {
        VkDeviceAddress colours, chosen, frame;
        uint32_t width, height, top_k, experts;
    } push = {p->colours.address,
              p->experts.address + (p->options->layer - 1) * layer,
              p->frame.address,
              p->width,
              p->height,
              (uint32_t)p->options->top_k,
              (uint32_t)p->options->experts};
    if (!gpu_begin(p->gpu))
        return false;
    for (uint32_t i = 0; i < steps; i++)
        if (!record_step(p))
            return false;
    if (!record_forward(p))
        return false;
    gpu_dispatch(p->gpu, p->compose, &push, sizeof push, pixels(p));
    gpu_barrier(p->gpu, VK_PIPELINE_STAGE_2_COMPUTE_SHADER_BIT, VK_ACCESS_2_SHADER_STORAGE_WRITE_BIT,
                VK_PIPELINE_STAGE_2_ALL_TRANSFER_BIT, VK_ACCESS_2_TRANSFER_READ_BIT);
    vkCmdCopyBuffer(p->gpu->commands, p->frame.buffer, p->staging.buffer, 1, &(VkBufferCopy){.size = p->frame.bytes});
    gpu_barrier(p->gpu, VK_PIPELINE_STAGE_2_ALL_TRANSFER_BIT, VK_ACCESS_2_TRANSFER_WRITE_BIT,
                VK_PIPELINE_STAGE_2_HOST_BIT, VK_ACCESS_2_HOST_READ_BIT);
    return true;
}
