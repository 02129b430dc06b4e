/* Text to tokens, and tokens to the [B,S] windows that a step trains on. */
#ifndef VKM_TRAIN_DATA_H
#define VKM_TRAIN_DATA_H

#include "base/log.h"

/* A target that is not predicted: no loss, no gradient. */
#define VKM_TARGET_NONE UINT32_MAX

enum vkm_split {
    VKM_SPLIT_TRAIN,                /* to train on */
    VKM_SPLIT_VALID,                /* held out */
    VKM_SPLIT_ALL,                  /* everything from the training paths, with what was held out of them */
};

/* Tokens in a split. */
uint64_t vkm_data_tokens(const struct vkmoe_data *data, enum vkm_split split);

/* Tokens that stand for a byte: all but the end-of-text tokens. */
uint64_t vkm_data_bytes(const struct vkmoe_data *data, enum vkm_split split);

/* A 64-bit hash of the tokens of the training and the validation split: the same text, split alike, has the same one on
 * every machine. Not for adversaries. */
uint64_t vkm_data_fingerprint(const struct vkmoe_data *data);

/* Whether there is enough to train on contexts of seq tokens and to validate. ERROR_ARGUMENT. */
enum vkmoe_status vkm_data_check(const struct vkmoe_data *data, uint32_t seq);

/* Fills tokens[count, seq] and targets[count, seq] with training windows at random places; window i of the run is
 * number first + i and depends on (seed, number) alone. The training split has at least seq + 1 tokens. */
void vkm_data_sample(const struct vkmoe_data *data, uint64_t seed, uint64_t first, uint32_t count, uint32_t seq,
                     uint32_t *tokens, uint32_t *targets);

/* Non-overlapping windows that together predict every token of the split but its first, once: the last may be part
 * empty. */
uint64_t vkm_data_windows(const struct vkmoe_data *data, enum vkm_split split, uint32_t seq);

/* Window `index` as tokens[seq], targets[seq]. Behind the split's last target the tokens go on, from the beginning after the
 * last one, so that routing is only ever measured on text; their targets are VKM_TARGET_NONE. Past vkm_data_windows: the
 * tokens of window (index mod windows) without targets. (Tokens are 0 in an empty split.) Returns how many targets are
 * real. */
uint32_t vkm_data_window(const struct vkmoe_data *data, enum vkm_split split, uint64_t index, uint32_t seq,
                         uint32_t *tokens, uint32_t *targets);

/* Writes into dir a Hugging Face tokenizer.json (and tokenizer_config.json) for the byte-level tokens: id = byte value,
 * 256 = "<|endoftext|>". */
enum vkmoe_status vkm_tokenizer_write(const struct vkmoe_log *log, const char *dir);

#endif
