#include "train/weights.h"

static struct vkm_buf part_of(const struct vkm_param *param, enum vkm_checkpoint_part part, uint64_t first, uint64_t count)
{
    struct vkm_buf all = part == VKM_PART_WEIGHT    ? param->weight
                         : part == VKM_PART_MOMENT1 ? param->moment1
                                                    : param->moment2;
    return vkm_buf_slice(all, first * sizeof(float), count * sizeof(float));
}

static enum vkmoe_status fetch(void *user, const struct vkm_param *param, enum vkm_checkpoint_part part, uint64_t first,
                               uint64_t count, float *values)
{
    struct vkm_net *net = user;
    return vkm_buf_download(net->ctx, part_of(param, part, first, count), values, count * sizeof *values);
}

static enum vkmoe_status store(void *user, const struct vkm_param *param, enum vkm_checkpoint_part part, uint64_t first,
                               uint64_t count, const float *values)
{
    struct vkm_net *net = user;
    return vkm_buf_upload(net->ctx, part_of(param, part, first, count), values, count * sizeof *values);
}

enum vkmoe_status vkm_weights_save_run(struct vkm_net *net, const char *dir, const struct vkmoe_train_config *train,
                                       const struct vkm_run_state *state)
{
    return vkm_run_save(&net->ctx->log, dir, &net->config, train, state, &net->params, fetch, net);
}

enum vkmoe_status vkm_weights_load(struct vkm_net *net, const char *dir, const struct vkm_run_state *state)
{
    return vkm_checkpoint_load(&net->ctx->log, dir, &net->config, state, &net->params, store, net);
}
